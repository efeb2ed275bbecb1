// The command on the emulated runtime.
#include "memo/cli/torch/verbs.h"
#include "tests/cuda/memo/emulated_gpu.h"

namespace memo::cli {

Result<std::unique_ptr<edge::Device>> open_device(const job::Job& job) {
  if (job.memory.device == "cpu") return edge::cpu_device();
  return cuda::emulated::open_gpu();
}

}  // namespace memo::cli
