// Measures the rates of the tier that a plan may use.
#pragma once

#include <functional>
#include <string>

#include "memo/exec/probe.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// The rates of `probe` bytes between a tier and the device's memory, in pieces of `request`, through the copy streams
// that a run uses; compute is a product of matrices.
Result<exec::TierRates> measure_copies(Device& device, exec::TierStore& store, Bytes probe, Bytes request);

// Adds the tier of these limits, if any, to `profile`, with rates measured through the device's copy streams. `say`
// gets lines of progress. Fails when memory.disk lacks the folder or the room.
Status add_tier(plan::Profile& profile, const job::MemoryLimits& memory, Device& device,
                const std::function<void(const std::string&)>& say = {});

}  // namespace memo::libtorch
