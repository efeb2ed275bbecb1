// memo profile JOB.toml -o profile.json: measures one layer of each kind on a few blocks, and the tiers.
#include <memory>

#include "memo/cli/tensor_verbs.h"
#include "memo/cli/verb.h"
#include "memo/plan/plan.h"

namespace memo::cli {
namespace {

Status read_and_profile(const ProfileOptions& options) {
  MEMO_TRY(const job::Job job, job::read_job(options.job, options.set));
  MEMO_CHECKED(check_replaceable(options.out, plan::profile_kind));
  return profile(options, job);
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("profile", "Measure one layer of each kind, attention's growth, and the tiers");
  const auto options = std::make_shared<ProfileOptions>();
  verb->add_option("job", options->job, "job.toml")->required();
  verb->add_option("-o,--output", options->out, "Where to write the profile")->capture_default_str();
  verb->add_option("--set", options->set, "Override a key of the job: key=value")->allow_extra_args(false);
  verb->callback([&action, options] { action = [options] { return read_and_profile(*options); }; });
}

}  // namespace memo::cli
