// The device that a verb of memo-tensors works on.
#pragma once

#include <memory>

#include "memo/cli/planning.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::cli {

// The device of a job, opened once for all that a verb does on it.
using DeviceHere = std::shared_ptr<libtorch::Device>;
Result<DeviceHere> open_device(const job::Job& job);
Measure measure_on(DeviceHere device);
// As `plan_here`.
Result<job::Job> with_device_limit(job::Job job, libtorch::Device& device);

}  // namespace memo::cli
