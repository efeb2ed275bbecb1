// The copy streams of a GPU, ordered against its compute stream by events.
#pragma once

#include <memory>
#include <vector>

#include "memo/cuda/device.h"
#include "memo/cuda/staging.h"
#include "memo/exec/executor.h"
#include "memo/exec/tier.h"

namespace memo::cuda {

// `tiers[i]` is the store of the program's tier i (null: no copy uses it). The GPU copies to and from a tier's pinned
// memory by itself, and the host never waits in a step. For other tiers, a thread in each direction copies through
// `staging`; `wait` returns when the tier's part of the copy is done, so that a failure is known before anything
// depends on it. Adjacent copies that start at one boundary move as one. Compute is all work on `device.compute()`.
// Device and tiers must outlive the engine, which one thread at a time may use.
Result<std::unique_ptr<exec::CopyEngine>> copy_engine(const Device& device, std::vector<exec::TierStore*> tiers,
                                                      const StagingSize& staging = {});

}  // namespace memo::cuda
