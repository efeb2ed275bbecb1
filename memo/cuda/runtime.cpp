// Words for the runtime's errors, with advice.
#include "memo/cuda/runtime.h"

#include <fmt/format.h>

namespace memo::cuda {
namespace {

// Names of errors: https://docs.nvidia.com/cuda/cuda-runtime-api, cudaError_t.
const char* advice(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice:
      return "see whether nvidia-smi lists a GPU, and whether CUDA_VISIBLE_DEVICES hides it";
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorStubLibrary:
      return "this machine has no driver of NVIDIA, or one too old for this CUDA version: install a newer one "
             "(nvidia-smi shows what is there)";
    case cudaErrorDevicesUnavailable:
    case cudaErrorDeviceAlreadyInUse:
      return "another process holds the GPU for itself: end it (nvidia-smi shows it) or take another GPU";
    case cudaErrorMemoryAllocation:
      return "the GPU or the host is out of memory: end other processes that use them (nvidia-smi shows those of the "
             "GPU)";
    default:
      return "the GPU is lost to this process: nvidia-smi and the kernel's log (lines with Xid) say why; then go on "
             "from the last checkpoint with --resume";
  }
}

}  // namespace

Status check(cudaError_t result, std::string_view doing) {
  if (result == cudaSuccess) return {};
  (void)cudaGetLastError();
  return run_time_error(fmt::format("CUDA: cannot {}: {} ({}); {}", doing, cudaGetErrorString(result),
                                    cudaGetErrorName(result), advice(result)));
}

Result<Driver> ask_driver() {
  Driver driver;
  std::size_t free = 0, total = 0;
  MEMO_CHECKED(check(cudaDriverGetVersion(&driver.version), "ask for the driver's version"));
  MEMO_CHECKED(check(cudaRuntimeGetVersion(&driver.runtime), "ask for the runtime's version"));
  MEMO_CHECKED(check(cudaGetDeviceCount(&driver.visible), "count the GPUs"));
  MEMO_CHECKED(check(cudaMemGetInfo(&free, &total), "ask for the GPU's free memory"));
  driver.free = Bytes(static_cast<std::int64_t>(free));
  driver.total = Bytes(static_cast<std::int64_t>(total));
  return driver;
}

Result<Event> make_event(unsigned flags) {
  cudaEvent_t event = nullptr;
  MEMO_CHECKED(check(cudaEventCreateWithFlags(&event, flags), "make an event"));
  return Event(event);
}

}  // namespace memo::cuda
