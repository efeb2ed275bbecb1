// memo compare: trains by each strategy, from one profile, and shows the results side by side.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "memo/base/text.h"
#include "memo/cli/machine.h"
#include "memo/cli/python.h"
#include "memo/cli/tensor_verbs.h"
#include "memo/cli/torch/device.h"
#include "memo/cli/torch/progress.h"
#include "memo/libtorch/train/run_files.h"
#include "memo/libtorch/train/run_folder.h"

namespace memo::cli {
namespace {

constexpr const char* profile_name = "profile.json";

struct Row {
  std::string strategy;
  std::optional<libtorch::Summary> summary;
  std::string reason;  // why it did not run; empty: it did
};

std::string table(const std::vector<Row>& rows, std::int64_t context) {
  std::string text =
      fmt::format("{:<11} {:>8} {:>11} {:>11} {:>9} {:>9} {:>8} {:>9}  {}\n", "strategy", "context", "peak pred.",
                  "peak meas.", "step pr.", "step me.", "stalls", "tokens/s", "loss digest");
  for (const Row& row : rows) {
    if (!row.summary) {
      text += fmt::format("{:<11} {:>8} {}\n", row.strategy, context, row.reason);
      continue;
    }
    const libtorch::Summary& s = *row.summary;
    text += fmt::format("{:<11} {:>8} {:>11} {:>11} {:>9} {:>9} {:>8} {:>9.0f}  {}\n", row.strategy, context,
                        format_bytes(s.device_peak_predicted), format_bytes(s.device_peak),
                        format_seconds(s.step_predicted), format_seconds(s.step), format_seconds(s.stall),
                        s.tokens_per_second, s.loss_digest);
  }
  return text;
}

std::string text_of(const std::vector<Row>& rows) {
  nlohmann::ordered_json object{{"version", 1}, {"rows", nlohmann::ordered_json::array()}};
  for (const Row& row : rows) {
    nlohmann::ordered_json entry{{"strategy", row.strategy}, {"ran", row.summary.has_value()}};
    if (row.summary) {
      entry["summary"] = ordered_json_of(libtorch::summary_json(*row.summary));
    } else {
      entry["reason"] = row.reason;
    }
    object["rows"].push_back(entry);
  }
  return json_text(object);
}

}  // namespace

Status compare(const CompareOptions& options, job::Job job) {
  if (!job.memory.core_dumps) MEMO_CHECKED(keep_memory_from_core_dumps());
  MEMO_TRY(const corpus::Dataset data, libtorch::open_data(job, find_python(), say));
  MEMO_CHECKED(libtorch::check_model(job));
  std::vector<std::string> names{profile_name, libtorch::comparison_file.name};
  names.insert(names.end(), options.strategies.begin(), options.strategies.end());
  MEMO_CHECKED(libtorch::check_comparison_folder(options.out, names));
  MEMO_CHECKED(make_folder(options.out));
  MEMO_TRY(const libtorch::RunLock lock, libtorch::RunLock::take(options.out));
  MEMO_TRY(const DeviceHere device, open_device(job));
  MEMO_TRY(job, with_device_limit(std::move(job), *device));
  MEMO_TRY(const plan::Profile profile, profile_for(job, options.profile, measure_on(device)));
  MEMO_CHECKED(plan::write_profile(profile, Path(options.out) / profile_name));
  std::vector<Row> rows;
  for (const std::string& strategy : options.strategies) {
    const auto plan = plan_for(job, profile, strategy);
    if (!plan) {
      if (plan.error().kind != ErrorKind::infeasible) return tl::unexpected<Error>(plan.error());
      rows.push_back({strategy, {}, "does not run: " + plan.error().message});
      say(strategy + " " + rows.back().reason);
      continue;
    }
    say(describe(*plan));
    const libtorch::TrainRequest request = shown_run(Path(options.out) / strategy, job, *plan);
    MEMO_TRY(libtorch::Summary summary, libtorch::train(job, *plan, data, *device, request));
    rows.push_back({strategy, std::move(summary), ""});
  }
  MEMO_CHECKED(libtorch::write_run_file(libtorch::comparison_file, options.out, text_of(rows) + "\n"));
  fmt::print("{}", options.json ? text_of(rows) + "\n" : table(rows, job.train.context.value()));
  return {};
}

}  // namespace memo::cli
