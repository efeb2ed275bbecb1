// memo check PLAN.json: the independent validator.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "memo/base/json.h"
#include "memo/base/text.h"
#include "memo/check/validate.h"
#include "memo/cli/verb.h"
#include "memo/plan/plan.h"

namespace memo::cli {
namespace {

struct CheckOptions {
  std::string plan;
  bool json = false;
};

std::string summary(const plan::Plan& plan) {
  const std::string limit =
      plan.device_limit > Bytes(0) ? fmt::format(" of {}", format_bytes(plan.device_limit)) : std::string(", no limit");
  return fmt::format("holds: strategy {}, peak {}{}, {} calls, {} residencies, {} copies", plan.strategy,
                     format_bytes(plan.program.arena), limit, plan.program.calls.size(),
                     plan.program.residencies.size(), plan.program.copies.size());
}

Status check(const CheckOptions& options) {
  MEMO_TRY(const plan::Plan plan, plan::read_plan(options.plan));
  constexpr std::size_t most = 20;
  const std::vector<std::string> failures = check::validate(plan, most);
  if (options.json) {
    const nlohmann::ordered_json object{{"plan", options.plan},
                                        {"valid", failures.empty()},
                                        {"failures", failures},
                                        {"arena_bytes", plan.program.arena.value()},
                                        {"device_limit_bytes", plan.device_limit.value()}};
    fmt::print("{}\n", json_text(object));
  } else if (failures.empty()) {
    fmt::print("{} {}\n", options.plan, summary(plan));
  } else {
    for (const std::string& failure : failures) fmt::print("{}\n", failure);
  }
  if (failures.empty()) return {};
  return bad_input(fmt::format("{}: {}{} check(s) failed; do not run it, make it again with 'memo plan'", options.plan,
                               failures.size(), failures.size() == most ? " or more" : ""));
}

}  // namespace

void add_check(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand(
      "check", "Check a plan independently of the planner: addresses, copies, order of reads and writes, limits");
  const auto options = std::make_shared<CheckOptions>();
  verb->add_option("plan", options->plan, "plan.json")->required();
  verb->add_flag("--json", options->json, "Print one JSON object: plan, valid, failures, ...");
  verb->callback([&action, options] { action = [options] { return check(*options); }; });
}

}  // namespace memo::cli
