// Devices of a build without CUDA.
#include "memo/cli/torch/verbs.h"

namespace memo::cli {

Result<std::unique_ptr<edge::Device>> open_device(const job::Job& job) {
  if (job.memory.device == "cuda")
    return bad_input("memory.device = \"cuda\": this build has no CUDA backend; use \"cpu\"");
  return edge::cpu_device();
}

}  // namespace memo::cli
