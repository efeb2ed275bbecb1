// Measures a tier as the plan will use it: through the copy streams, each direction alone, both, and under compute.
#pragma once

#include <functional>

#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/exec/tier.h"

namespace memo::exec {

struct TierRates {
  BytesPerSecond write, read;                        // one direction alone
  BytesPerSecond write_with_read, read_with_write;   // each while the other runs
  double compute_slowdown = 1;                       // time of `work` while both run, over its time alone; >= 1
};

// `bytes` of the store are written and read in requests of `request` bytes; `work` is a piece of compute of some
// milliseconds, called repeatedly on this thread.
Result<TierRates> measure_tier(TierStore& store, Bytes bytes, Bytes request, const std::function<void()>& work);

}  // namespace memo::exec
