// Devices of a build with CUDA.
#include "memo/cli/torch/verbs.h"
#include "memo/gpu/cuda_device.h"

namespace memo::cli {

Result<std::unique_ptr<edge::Device>> open_device(const job::Job& job) {
  if (job.memory.device == "cpu") return edge::cpu_device();
  auto gpu = gpu::open_cuda_device();
  if (!gpu) return job.memory.device == "auto" ? edge::cpu_device() : std::move(gpu);
  if (job.model.dtype != job::DType::bfloat16)
    return bad_input(
        "on a GPU Memo trains in bfloat16 with float32 master weights: set model.dtype = \"bfloat16\", or "
        "memory.device = \"cpu\"");
  return gpu;
}

}  // namespace memo::cli
