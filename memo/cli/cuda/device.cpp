// Devices of a build with CUDA.
#include "memo/cli/torch/verbs.h"
#include "memo/gpu/cuda_device.h"

namespace memo::cli {

Result<std::unique_ptr<edge::Device>> open_device(const job::Job& job) {
  const bool automatic = job.memory.device == "auto", fit = job.model.dtype == job::DType::bfloat16;
  if (job.memory.device == "cpu" || (automatic && !fit)) return edge::cpu_device();
  if (!fit)
    return bad_input(
        "on a GPU Memo trains in bfloat16 with float32 master weights: set model.dtype = \"bfloat16\", or "
        "memory.device = \"cpu\"");
  auto gpu = gpu::open_cuda_device();
  if (!gpu && automatic) return edge::cpu_device();
  return gpu;
}

}  // namespace memo::cli
