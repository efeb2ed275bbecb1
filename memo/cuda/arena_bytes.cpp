// Fills by cudaMemset; what looks find is one word of the GPU's memory, read through registered memory.
#include "memo/cuda/arena_bytes.h"

#include <cstring>
#include <optional>
#include <utility>

namespace memo::cuda {
namespace {

constexpr std::uint64_t none = ~std::uint64_t{0};

class DeviceBytes final : public exec::ArenaBytes {
 public:
  DeviceBytes(const Device& device, LookForPoison look, DeviceMemory found, HostMemory on_host)
      : device_(device), look_(look), found_(std::move(found)), on_host_(std::move(on_host)) {}

  Status fill(std::byte* to, Bytes bytes, int value) override {
    const Current there(device_.index());
    return check(cudaMemsetAsync(to, value, static_cast<std::size_t>(bytes.value()), device_.compute()),
                 "fill memory of the GPU");
  }

  Status look(const exec::Look& look, std::int64_t number) override {
    const Current there(device_.index());
    look_(look, number, reinterpret_cast<std::uint64_t*>(found_.get()), device_.compute());
    return {};
  }

  Result<std::optional<exec::Found>> found() override {
    const Current there(device_.index());
    std::uint64_t word = none;
    MEMO_CHECKED(
        check(cudaMemcpyAsync(on_host_.data(), found_.get(), sizeof word, cudaMemcpyDeviceToHost, device_.compute()),
              "read memory of the GPU"));
    MEMO_CHECKED(forget());
    MEMO_CHECKED(check(cudaStreamSynchronize(device_.compute()), "read memory of the GPU"));
    std::memcpy(&word, on_host_.data(), sizeof word);
    if (word == none) return std::optional<exec::Found>();
    return exec::Found{static_cast<std::int64_t>(word >> 32), static_cast<std::int64_t>(word & 0xFFFFFFFF)};
  }

  [[nodiscard]] bool waits() const override { return true; }

  Status forget() { return fill(found_.get(), Bytes(sizeof none), 0xFF); }

 private:
  const Device& device_;
  const LookForPoison look_;
  const DeviceMemory found_;
  const HostMemory on_host_;
};

}  // namespace

Result<std::unique_ptr<exec::ArenaBytes>> arena_bytes(const Device& device, LookForPoison look) {
  const Current there(device.index());
  MEMO_TRY(DeviceMemory found, Device::allocate(Bytes(sizeof none)));
  MEMO_TRY(HostMemory on_host, HostMemory::map(device, Bytes(sizeof none), "check mode"));
  auto bytes = std::make_unique<DeviceBytes>(device, look, std::move(found), std::move(on_host));
  MEMO_CHECKED(bytes->forget());
  return bytes;
}

}  // namespace memo::cuda
