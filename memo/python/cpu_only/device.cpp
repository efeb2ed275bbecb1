// Devices of a build without CUDA.
#include "memo/python/device.h"

namespace memo::plugin {

Result<std::unique_ptr<edge::Device>> open_device(at::Device place) {
  if (place.is_cpu()) return edge::cpu_device();
  return bad_input(
      "this build of memo is for the CPU; one that is built with nvcc and a PyTorch for CUDA runs on a GPU too");
}

}  // namespace memo::plugin
