// memo profile JOB.toml -o profile.json: measures one layer of each kind on a few blocks, and the tiers.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "memo/base/text.h"
#include "memo/cli/torch/verbs.h"

namespace memo::cli {
namespace {

struct ProfileOptions {
  std::string job, out = "profile.json";
  std::vector<std::string> set;
};

Status profile(const ProfileOptions& options) {
  MEMO_TRY(const job::Job job, job::read_job(options.job, options.set));
  MEMO_CHECKED(check_replaceable(options.out, plan::profile_kind));
  MEMO_TRY(const DeviceHere device, open_device(job));
  MEMO_TRY(const plan::Profile profile, measure_on(device)(job));
  MEMO_CHECKED(plan::write_profile(profile, options.out));
  fmt::print("{}: {} on {}, {} traces, {} tensor classes\n", options.out, profile.model, profile.device,
             profile.traces.size(), profile.flow.classes.size());
  return {};
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand(profile_verb.name, profile_verb.description);
  const auto options = std::make_shared<ProfileOptions>();
  verb->add_option("job", options->job, "job.toml")->required();
  verb->add_option("-o,--output", options->out, "Where to write the profile")->capture_default_str();
  verb->add_option("--set", options->set, "Override a key of the job: key=value")->allow_extra_args(false);
  verb->callback([&action, options] { action = [options] { return profile(*options); }; });
}

}  // namespace memo::cli
