// Random numbers of the emulated GPU: a generator of the CPU draws them, so their bits are not CUDA's.
#include <ATen/CPUGeneratorImpl.h>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

class DeviceGenerator final : public c10::GeneratorImpl {
 public:
  DeviceGenerator(c10::DeviceIndex index, at::Generator cpu)
      : GeneratorImpl(c10::Device(c10::kCUDA, index), c10::DispatchKeySet(c10::DispatchKey::CUDA)),
        cpu_(std::move(cpu)) {}

  void set_current_seed(std::uint64_t seed) override { cpu_.set_current_seed(seed); }
  void set_offset(std::uint64_t offset) override { offset_ = offset; }
  std::uint64_t get_offset() const override { return offset_; }
  std::uint64_t current_seed() const override { return cpu_.current_seed(); }
  std::uint64_t seed() override { return cpu_.seed(); }
  void set_state(const c10::TensorImpl& state) override { cpu_.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return cpu_.unsafeGetGeneratorImpl()->get_state(); }
  [[nodiscard]] const at::Generator& cpu() const { return cpu_; }

 private:
  DeviceGenerator* clone_impl() const override { return new DeviceGenerator(device().index(), cpu_.clone()); }

  at::Generator cpu_;
  std::uint64_t offset_ = 0;
};

}  // namespace

at::Generator new_generator(c10::DeviceIndex index) {
  return at::make_generator<DeviceGenerator>(index, at::detail::createCPUGenerator());
}

at::Generator on_host(const at::Generator& generator) {
  return static_cast<const DeviceGenerator*>(generator.unsafeGetGeneratorImpl())->cpu();
}

}  // namespace memo::cuda::emulated
