// Measures the first GPU with training's kernels and copies.
#include "memo/cli/gpu.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "memo/libtorch/measure/kernels_found.h"
#include "memo/libtorch/measure/tier_profile.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::cli {
namespace {

const libtorch::DeviceKind* gpus() {
  const libtorch::DeviceKind* kind = libtorch::device_kinds().front();
  return kind->tensors == c10::DeviceType::CPU ? nullptr : kind;
}

// Registers at most 8 GiB, and no more than the host can spare.
Result<Gpu::HostMemory> measure_host_memory(libtorch::Device& device, const Memory& host) {
  constexpr Bytes wanted(std::int64_t{8} << 30), request(16 << 20), copied(256 << 20);
  Gpu::HostMemory result;
  result.bytes = std::max(copied, std::min(wanted, round_up(host.usable() / 8, request.value())));
  const auto start = std::chrono::steady_clock::now();
  MEMO_TRY(const auto tier, device.host_tier(result.bytes));
  result.seconds = Seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  MEMO_TRY(result.rates, libtorch::measure_copies(device, *tier, copied, request));
  return result;
}

Result<Gpu> look_at(libtorch::Device& device, const Memory& host) {
  MEMO_TRY(const std::optional<libtorch::DeviceFacts> facts, device.facts());
  MEMO_TRY(const std::optional<Bytes> room, device.room());
  const libtorch::DeviceFacts its = facts.value_or(libtorch::DeviceFacts{});
  Gpu gpu{device.name(),
          its.capability,
          its.driver,
          its.runtime,
          its.visible,
          its.total,
          its.free,
          room.value_or(Bytes(0)),
          measure_host_memory(device, host),
          {}};
  for (libtorch::KernelFound& kernel : libtorch::kernels_found(device))
    gpu.kernels.push_back({std::move(kernel.name), kernel.needed, std::move(kernel.missing)});
  return gpu;
}

}  // namespace

bool trains_on_gpus() { return gpus() != nullptr; }

std::optional<Result<Gpu>> look_at_gpu(const Memory& host) {
  if (!trains_on_gpus()) return std::nullopt;
  const auto device = gpus()->open(libtorch::Stream::own, 0);
  if (!device) return tl::unexpected<Error>(device.error());
  return look_at(**device, host);
}

}  // namespace memo::cli
