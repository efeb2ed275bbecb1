// Copy streams of a GPU, ordered against its compute stream by events.
#pragma once

#include <memory>
#include <vector>

#include "memo/cuda/device.h"
#include "memo/cuda/staging.h"
#include "memo/exec/executor.h"
#include "memo/exec/tier.h"

namespace memo::cuda {

// `tiers[i]` is the store of the program's tier i (null: no copy uses it). The GPU copies to and from a tier's pinned
// memory by itself, and the host never waits in a step; other tiers are served by a thread a direction through
// `staging`, and `wait` returns when the tier's part of the copy is done, so that a failure is known before anything
// depends on it. Neighbouring copies that start at one boundary move at once. Compute is whatever is given to
// `device.compute()`. Device and tiers must outlive the engine; one thread at a time may use it.
Result<std::unique_ptr<exec::CopyEngine>> copy_engine(const Device& device, std::vector<exec::TierStore*> tiers,
                                                      const StagingSize& staging = {});

}  // namespace memo::cuda
