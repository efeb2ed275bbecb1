// A device's arena, tiers and copy engine, from the CUDA backend.
#include "memo/gpu_memory/gpu_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "memo/cuda/copies.h"
#include "memo/cuda/host_memory.h"

namespace memo::gpu_memory {

Status GpuDevice::prepare(cuda::LookForPoison look) {
  MEMO_TRY(bytes_, cuda::arena_bytes(device_, look));
  return {};
}

// Filled with zeros, as the host's mappings are.
Result<libtorch::Arena> GpuDevice::map(Bytes bytes) {
  if (bytes == Bytes(0)) return libtorch::Arena(std::shared_ptr<std::byte>(), bytes);
  const cuda::Current there(device_.index());
  release_cache();
  MEMO_TRY(cuda::DeviceMemory memory, cuda::Device::allocate(bytes));
  MEMO_CHECKED(bytes_->fill(memory.get(), bytes, 0));
  return libtorch::Arena(std::shared_ptr<std::byte>(std::move(memory)), bytes);
}

Result<std::optional<libtorch::DeviceFacts>> GpuDevice::facts() {
  const cuda::Current there(device_.index());
  release_cache();
  MEMO_TRY(const cuda::Driver driver, cuda::ask_driver());
  const auto version = [](int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); };
  return libtorch::DeviceFacts{fmt::format("{}.{}", device_.capability() / 10, device_.capability() % 10),
                               version(driver.version),
                               version(driver.runtime),
                               driver.visible,
                               driver.free,
                               driver.total};
}

Result<std::optional<Bytes>> GpuDevice::room() {
  constexpr Bytes most_reserved(std::int64_t{1} << 30);
  MEMO_TRY(const std::optional<libtorch::DeviceFacts> now, facts());
  return std::max(Bytes(1), now->free - std::min(most_reserved, now->total / 16));
}

Result<std::unique_ptr<exec::TierStore>> GpuDevice::host_tier(Bytes bytes) { return cuda::host_tier(device_, bytes); }

Result<std::unique_ptr<exec::CopyEngine>> GpuDevice::copy_engine(std::vector<exec::TierStore*> tiers) {
  return cuda::copy_engine(device_, std::move(tiers));
}

}  // namespace memo::gpu_memory
