// What leads to a profile and a limit, with LibTorch.
#include "memo/cli/planning.h"

#include <fmt/format.h>

#include "memo/base/text.h"
#include "memo/cli/python.h"
#include "memo/libtorch/measure/profiler.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::cli {

Result<plan::Profile> measure_profile(const job::Job& job) {
  MEMO_TRY(const auto device, libtorch::open_device(job.memory.device, job.model.dtype));
  return libtorch::profile_job(job, *device, say, find_python());
}

Result<job::Job> with_device_limit(job::Job job) {
  if (job.memory.device_limit > Bytes(0)) return job;
  MEMO_TRY(const auto device, libtorch::open_device(job.memory.device, job.model.dtype));
  MEMO_TRY(const std::optional<Bytes> room, device->room());
  if (!room) return job;
  say(fmt::format("memory.device_limit = {}: what {} has free, less a reserve", format_bytes(*room), device->name()));
  job.memory.device_limit = *room;
  return job;
}

}  // namespace memo::cli
