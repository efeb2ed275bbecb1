// Measures the rates of the tier that a plan may use.
#pragma once

#include <functional>
#include <string>

#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// Adds the tier of these limits, if any, to `profile`, with rates measured through the device's copy streams. `say`
// gets lines of progress. Fails when memory.disk lacks the folder or the room.
Status add_tier(plan::Profile& profile, const job::MemoryLimits& memory, Device& device,
                const std::function<void(const std::string&)>& say = {});

}  // namespace memo::libtorch
