// The device of a job, its limit and its profile.
#include "memo/cli/planning.h"

#include <fmt/format.h>

#include "memo/base/text.h"
#include "memo/cli/python.h"
#include "memo/cli/torch/device.h"
#include "memo/libtorch/measure/profiler.h"
#include "memo/model/shape.h"

namespace memo::cli {

Result<DeviceHere> open_device(const job::Job& job) {
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  MEMO_TRY(DeviceHere device, libtorch::open_device(job.memory.device, {job.model.dtype, shape.head_dim}, say));
  return device;
}

Measure measure_on(DeviceHere device) {
  return [device = std::move(device)](const job::Job& job) {
    return libtorch::profile_job(job, *device, say, find_python());
  };
}

Result<job::Job> with_device_limit(job::Job job, libtorch::Device& device) {
  if (job.memory.device_limit > Bytes(0)) return job;
  MEMO_TRY(const std::optional<Bytes> room, device.room());
  if (!room) return job;
  job.memory.device_limit = *room;
  std::string line =
      fmt::format("memory.device_limit = {}: what {} has free, less a reserve", format_bytes(*room), device.name());
  MEMO_TRY(const std::optional<libtorch::DeviceFacts> facts, device.facts());
  if (const Bytes taken = facts ? facts->total - facts->free : Bytes(0); facts && taken > facts->total / 16)
    line += fmt::format("; other processes and CUDA itself hold {} of its {} (nvidia-smi shows them)",
                        format_bytes(taken), format_bytes(facts->total));
  say(line);
  return job;
}

Result<ForHere> plan_here(job::Job job) {
  MEMO_TRY(DeviceHere device, open_device(job));
  MEMO_TRY(job, with_device_limit(std::move(job), *device));
  return ForHere{std::move(job), measure_on(std::move(device))};
}

}  // namespace memo::cli
