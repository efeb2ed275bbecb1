// memo train JOB.toml --out RUN: profiles and plans when no plan is given, then trains by the plan.
#include <memory>

#include "memo/cli/planning.h"
#include "memo/cli/tensor_verbs.h"
#include "memo/cli/verb.h"

namespace memo::cli {
namespace {

Status read_and_train(const TrainOptions& options) {
  MEMO_TRY(job::Job job, job::read_job(options.job, options.set));
  MEMO_CHECKED(check_strategy(options.strategy));
  return train(options, std::move(job));
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  CLI::App* verb =
      app.add_subcommand("train", "Train a job by its plan; prints the prediction next to the measurement");
  const auto options = std::make_shared<TrainOptions>();
  verb->add_option("job", options->job, "job.toml")->required();
  verb->add_option("--out", options->out, "Run folder: metrics, summary, timeline, checkpoints")->required();
  verb->add_option("--strategy", options->strategy, "memo, resident, recompute, offload or memo-alpha")
      ->capture_default_str();
  verb->add_option("--profile", options->profile, "A profile of this job; measured when absent");
  verb->add_option("--plan", options->plan, "A plan of this job; made when absent");
  verb->add_option("--tensorboard", options->tensorboard, "Folder for TensorBoard's files: each step's figures");
  verb->add_flag("--check{every}", options->check,
                 "Check mode for every step: accesses of all streams ordered, free memory poisoned (default: the first "
                 "step; --check=off: none)")
      ->check(CLI::IsMember({"first", "every", "off"}));
  verb->add_flag("--no-gradient-digest", options->no_gradient_digest,
                 "Leave summary.json's grad_digest empty: it takes about a second for each GB of gradients");
  verb->add_option("--faults", options->faults)->group("");  // for tests: SEED[:RATE[:KIND]], of the disk tier
  verb->add_flag("--resume", options->resume, "Go on from the newest checkpoint in the run folder");
  verb->add_option("--set", options->set, "Override a key of the job: key=value")->allow_extra_args(false);
  verb->add_flag("--json", options->json, "Print summary.json on stdout and nothing else");
  verb->callback([&action, options] { action = [options] { return read_and_train(*options); }; });
}

}  // namespace memo::cli
