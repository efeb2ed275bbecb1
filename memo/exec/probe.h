// Measures a tier as the plan will use it: through the copy streams, each direction alone, both, and under compute.
#pragma once

#include <functional>

#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/exec/executor.h"
#include "memo/exec/tier.h"

namespace memo::exec {

struct TierRates {
  BytesPerSecond write, read;                       // one direction alone
  BytesPerSecond write_with_read, read_with_write;  // each while the other runs
  double compute_slowdown = 1;                      // time of `work` while both run, over its time alone; >= 1
};

// `bytes` of the engine's tier 0 are copied from and to `memory`, which has room for two requests; `work` is a piece of
// compute of some milliseconds, called repeatedly on this thread, which has ended when it returns.
Result<TierRates> measure_tier(CopyEngine& engine, std::byte* memory, Bytes bytes, Bytes request,
                               const std::function<void()>& work);
// The same through the CPU's copy streams.
Result<TierRates> measure_tier(TierStore& store, Bytes bytes, Bytes request, const std::function<void()>& work);

}  // namespace memo::exec
