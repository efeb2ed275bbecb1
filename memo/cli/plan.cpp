// memo plan JOB.toml: every saved tensor's place and address, the predicted peak and step time, before a step runs.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "memo/cli/planning.h"
#include "memo/cli/verb.h"

namespace memo::cli {
namespace {

struct PlanOptions {
  std::string job, out, strategy = "memo";
  std::optional<std::string> profile, hardware, hardware_file;
  std::vector<std::string> set;
  bool json = false;
};

Status make_plan(const PlanOptions& options) {
  MEMO_TRY(job::Job job, job::read_job(options.job, options.set));
  MEMO_CHECKED(check_strategy(options.strategy));
  if (!options.out.empty()) MEMO_CHECKED(check_replaceable(options.out, plan::plan_kind));
  ForHere here{std::move(job), {}};
  if (options.hardware) {
    MEMO_TRY(here, plan_on_paper(std::move(here.job), *options.hardware, options.hardware_file));
  } else if (!options.profile) {
    MEMO_TRY(here, plan_here(std::move(here.job)));
  }
  MEMO_TRY(const plan::Plan plan, plan_job(here.job, here.job, options.profile, options.strategy, here.measure));
  if (!options.out.empty()) MEMO_CHECKED(plan::write_plan(plan, options.out));
  fmt::print("{}", options.json ? plan_json_line(plan) + "\n" : describe(plan));
  return {};
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("plan", "Plan a job: placement, addresses, predicted peak and step time");
  const auto options = std::make_shared<PlanOptions>();
  verb->add_option("job", options->job, "job.toml")->required();
  CLI::Option* profile = verb->add_option("--profile", options->profile, "A profile of this job; measured when absent");
  verb->add_option("--hardware", options->hardware,
                   "Plan on paper for a GPU that is not here: H100 (memo estimate's table)")
      ->excludes(profile);
  verb->add_option("--hardware-file", options->hardware_file, "More GPUs, in the form of hardware.toml");
  verb->add_option("--strategy", options->strategy, "memo, resident, recompute, offload or memo-alpha")
      ->capture_default_str();
  verb->add_option("-o,--output", options->out, "Where to write plan.json");
  verb->add_option("--set", options->set, "Override a key of the job: key=value")->allow_extra_args(false);
  verb->add_flag("--json", options->json, "Print one JSON object");
  verb->callback([&action, options] { action = [options] { return make_plan(*options); }; });
}

}  // namespace memo::cli
