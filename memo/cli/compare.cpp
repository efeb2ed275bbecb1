// memo compare JOB.toml --out DIR: trains by each strategy, from one profile, and shows the results side by side.
#include <memory>

#include "memo/cli/planning.h"
#include "memo/cli/tensor_verbs.h"
#include "memo/cli/verb.h"

namespace memo::cli {
namespace {

Status read_and_compare(const CompareOptions& options) {
  MEMO_TRY(job::Job job, job::read_job(options.job, options.set));
  for (const std::string& strategy : options.strategies) MEMO_CHECKED(check_strategy(strategy));
  return compare(options, std::move(job));
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("compare", "Train by each strategy in one run; a table and compare.json");
  const auto options = std::make_shared<CompareOptions>();
  verb->add_option("job", options->job, "job.toml")->required();
  verb->add_option("--out", options->out, "Folder: one run folder per strategy, compare.json")->required();
  verb->add_option("--strategies", options->strategies, "Comma-separated")->delimiter(',')->capture_default_str();
  verb->add_option("--profile", options->profile, "A profile of this job; measured when absent");
  verb->add_option("--set", options->set, "Override a key of the job: key=value")->allow_extra_args(false);
  verb->add_flag("--json", options->json, "Print compare.json on stdout and nothing else");
  verb->callback([&action, options] { action = [options] { return read_and_compare(*options); }; });
}

}  // namespace memo::cli
