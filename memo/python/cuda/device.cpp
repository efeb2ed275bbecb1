// Devices of a build with CUDA.
#include "memo/python/device.h"

#include "memo/gpu/cuda_device.h"

namespace memo::plugin {

Result<std::unique_ptr<edge::Device>> open_device(at::Device place) {
  if (place.is_cpu()) return edge::cpu_device();
  if (!place.is_cuda()) return bad_input("layers run on the CPU or on a CUDA GPU");
  return gpu::open_cuda_device(cuda::Device::Compute::legacy_default_stream);
}

}  // namespace memo::plugin
