// Measures a tier through the copy streams, as the plan will use it: each direction alone, both at once, and under
// compute.
#pragma once

#include <functional>

#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/exec/executor.h"
#include "memo/exec/tier.h"

namespace memo::exec {

struct TierRates {
  BytesPerSecond write, read;                            // one direction alone
  BytesPerSecond write_with_read, read_with_write;       // each while the other runs
  BytesPerSecond write_with_compute, read_with_compute;  // each while the other and `work` run
  double compute_slowdown = 1;                           // time of `work` during both copies, over its time alone; >= 1
};

// Copies `bytes` of the engine's tier 0 from and to `memory`, which has room for two requests. `work` is a piece of
// compute of some milliseconds that has ended when it returns; it is called repeatedly on this thread.
Result<TierRates> measure_tier(CopyEngine& engine, std::byte* memory, Bytes bytes, Bytes request,
                               const std::function<void()>& work);
// The same, through the CPU's copy streams.
Result<TierRates> measure_tier(TierStore& store, Bytes bytes, Bytes request, const std::function<void()>& work);

}  // namespace memo::exec
