// Fills by cudaMemset, and strided reads through registered memory.
#include "memo/cuda/arena_bytes.h"

#include <algorithm>
#include <utility>

namespace memo::cuda {
namespace {

constexpr std::size_t words_at_once = 1 << 16;

class DeviceBytes final : public exec::ArenaBytes {
 public:
  DeviceBytes(const Device& device, HostMemory words) : device_(device), words_(std::move(words)) {}

  Status fill(std::byte* to, Bytes bytes, int value) override {
    const Current there(device_.index());
    return check(cudaMemsetAsync(to, value, static_cast<std::size_t>(bytes.value()), device_.compute()),
                 "fill memory of the GPU");
  }

  Status read(const std::byte* from, Bytes stride, std::span<std::uint64_t> words) override {
    const Current there(device_.index());
    constexpr std::size_t width = sizeof(std::uint64_t);
    for (std::size_t first = 0; first < words.size(); first += words_at_once) {
      const std::size_t count = std::min(words_at_once, words.size() - first);
      MEMO_CHECKED(
          check(cudaMemcpy2DAsync(words_.data(), width, from + static_cast<std::int64_t>(first) * stride.value(),
                                  static_cast<std::size_t>(stride.value()), width, count, cudaMemcpyDeviceToHost,
                                  device_.compute()),
                "read memory of the GPU"));
      MEMO_CHECKED(check(cudaStreamSynchronize(device_.compute()), "read memory of the GPU"));
      std::copy_n(reinterpret_cast<const std::uint64_t*>(words_.data()), count,
                  words.begin() + static_cast<std::ptrdiff_t>(first));
    }
    return {};
  }

 private:
  const Device& device_;
  const HostMemory words_;
};

}  // namespace

Result<std::unique_ptr<exec::ArenaBytes>> arena_bytes(const Device& device) {
  const Current there(device.index());
  constexpr Bytes bytes(static_cast<std::int64_t>(words_at_once * sizeof(std::uint64_t)));
  MEMO_TRY(HostMemory words, HostMemory::map(device, bytes, "check mode"));
  return std::make_unique<DeviceBytes>(device, std::move(words));
}

}  // namespace memo::cuda
