// The CPU as a device, and tensors over memory that they do not own.
#include "memo/libtorch/memory/device.h"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include "memo/exec/cpu_copies.h"

namespace memo::libtorch {
namespace {

class CpuDevice final : public Device {
 public:
  [[nodiscard]] std::string name() const override { return fmt::format("cpu, {} threads", at::get_num_threads()); }
  [[nodiscard]] at::Device of_tensors() const override { return at::kCPU; }
  Result<Arena> map(Bytes bytes) override { return Arena::map(bytes); }
  Result<std::unique_ptr<exec::TierStore>> host_tier(Bytes) override {
    return bad_input("memory.host_limit is a tier for GPUs; on the CPU the device is the host's memory: leave it out");
  }
  Result<std::unique_ptr<exec::CopyEngine>> copy_engine(std::vector<exec::TierStore*> tiers) override {
    return exec::cpu_copy_engine(std::move(tiers));
  }
  exec::ArenaBytes& bytes() override { return bytes_; }
  void run(const std::function<void()>& work) override { work(); }
  void finish() override {}
  [[nodiscard]] HeapUse unplanned() const override { return heap_use(); }
  void reset_unplanned_peak() override { reset_heap_peak(); }

 private:
  exec::ArenaBytes bytes_;
};

void* plain(const std::byte* memory) { return const_cast<std::byte*>(memory); }

}  // namespace

at::Tensor tensor_at(const std::byte* memory, at::IntArrayRef sizes, at::ScalarType dtype, at::Device device) {
  return at::for_blob(plain(memory), sizes)
      .target_device(device)
      .options(at::dtype(dtype).device(device))
      .make_tensor();
}

at::Tensor tensor_at(const std::byte* memory, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype,
                     at::Device device) {
  return at::for_blob(plain(memory), sizes)
      .strides(strides)
      .target_device(device)
      .options(at::dtype(dtype).device(device))
      .make_tensor();
}

at::Tensor unowned(const at::Tensor& x) {
  return tensor_at(static_cast<const std::byte*>(x.const_data_ptr()), x.sizes(), x.scalar_type(), x.device());
}

std::unique_ptr<Device> cpu_device() { return std::make_unique<CpuDevice>(); }

}  // namespace memo::libtorch
