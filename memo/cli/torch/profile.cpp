// memo profile: measures one layer of each kind on a few blocks, and the tiers.
#include <fmt/format.h>

#include <cstdio>

#include "memo/base/text.h"
#include "memo/cli/tensor_verbs.h"
#include "memo/cli/torch/device.h"

namespace memo::cli {

Status profile(const ProfileOptions& options, const job::Job& job) {
  MEMO_TRY(const DeviceHere device, open_device(job));
  MEMO_TRY(const plan::Profile profile, measure_on(device)(job));
  MEMO_CHECKED(plan::write_profile(profile, options.out));
  fmt::print("{}: {} on {}, {} traces, {} tensor classes\n", options.out, profile.model, profile.device,
             profile.traces.size(), profile.flow.classes.size());
  return {};
}

}  // namespace memo::cli
