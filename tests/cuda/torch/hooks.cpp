// What LibTorch for the CPU asks of its CUDA library.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include "tests/cuda/torch/device.h"

namespace at {

using memo::cuda::emulated::default_generator;
using memo::cuda::emulated::device_of;

// In namespace at, as the macro behind it asks.
struct CUDAHooks final : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}

  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return c10::cuda::device_count() > 0; }
  void init() const override {}
  bool hasCUDA() const override { return isAvailable(); }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return c10::cuda::device_count(); }
  DeviceIndex deviceCount() const override { return c10::cuda::device_count(); }
  DeviceIndex current_device() const override { return c10::cuda::current_device(); }
  DeviceIndex getCurrentDevice() const override { return c10::cuda::current_device(); }
  void deviceSynchronize(DeviceIndex device) const override {
    const memo::cuda::emulated::Current there(Device(kCUDA, device));
    c10::cuda::device_synchronize();
  }
  const Generator& getDefaultGenerator(DeviceIndex index) const override { return default_generator(index); }
  Generator getNewGenerator(DeviceIndex index) const override {
    return memo::cuda::emulated::new_generator(index < 0 ? c10::cuda::current_device() : index);
  }
  Device getDeviceFromPtr(void* address) const override {
    const int device = device_of(address);
    TORCH_CHECK(device >= 0,
                "The specified pointer resides on host memory and is not registered with any CUDA device.");
    return {kCUDA, static_cast<DeviceIndex>(device)};
  }
  bool isPinnedPtr(const void* data) const override { return memo::cuda::emulated::is_registered(data); }
  Allocator* getPinnedMemoryAllocator() const override { return memo::cuda::emulated::pinned_allocator(); }
  Allocator* getCUDADeviceAllocator() const override { return c10::cuda::CUDACachingAllocator::get(); }
};

REGISTER_CUDA_HOOKS(CUDAHooks);

}  // namespace at
