// Opens the emulated GPU; a call on it is a kernel, in which the host may touch the device's memory.
#include "tests/cuda/memo/emulated_gpu.h"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string>

#include "memo/base/check.h"
#include "memo/gpu_memory/gpu_device.h"
#include "tests/cuda/emulated/runtime/emulated.h"

namespace memo::cuda::emulated {
namespace {

class EmulatedGpu final : public gpu_memory::GpuDevice {
 public:
  explicit EmulatedGpu(cuda::Device device) : gpu_memory::GpuDevice(std::move(device)) {}
  using gpu_memory::GpuDevice::prepare;

  [[nodiscard]] std::string name() const override { return "an emulated GPU"; }
  [[nodiscard]] at::Device of_tensors() const override { return at::kCPU; }
  // A kernel: the host may touch the device's memory while it runs, and only then.
  void run(const std::function<void()>& work) override {
    const Kernel kernel(compute());
    work();
  }
  void finish() override { MEMO_CHECK(cudaStreamSynchronize(compute()) == cudaSuccess, "the emulation waits"); }
  [[nodiscard]] libtorch::HeapUse unplanned() const override { return libtorch::heap_use(); }
  void reset_unplanned_peak() override { libtorch::reset_heap_peak(); }
};

Settings settings() {
  Settings result;
  result.device_bytes = std::int64_t{8} << 30;
  const char* pace = std::getenv("MEMO_EMULATED_PACE");
  const std::string name = pace == nullptr ? "prompt" : pace;
  MEMO_CHECK(name == "prompt" || name == "late" || name == "random", "MEMO_EMULATED_PACE is one of the paces");
  result.pace = name == "late" ? Pace::late : name == "random" ? Pace::random : Pace::prompt;
  return result;
}

}  // namespace

Result<std::unique_ptr<libtorch::Device>> open_gpu() {
  reset(settings());
  MEMO_TRY(Device device, Device::open());
  auto gpu = std::make_unique<EmulatedGpu>(std::move(device));
  MEMO_CHECKED(gpu->prepare());
  return gpu;
}

}  // namespace memo::cuda::emulated
