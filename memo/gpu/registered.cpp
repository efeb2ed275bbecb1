// Enters GPUs into the registry of devices.
#include <fmt/format.h>

#include "memo/gpu/attention.h"
#include "memo/gpu/cuda_device.h"
#include "memo/gpu/kernels.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::gpu {
namespace {

Result<std::unique_ptr<libtorch::Device>> open(libtorch::Stream stream, int index) {
  using Compute = cuda::Device::Compute;
  return open_cuda_device(stream == libtorch::Stream::own ? Compute::own_stream : Compute::legacy_default_stream,
                          index);
}

Status trains(const libtorch::OfAttention& heads) {
  if (heads.dtype != job::DType::bfloat16)
    return bad_input(
        "on a GPU Memo trains in bfloat16 with float32 master weights: set model.dtype = \"bfloat16\", or "
        "memory.device = \"cpu\"");
  const std::string refusal = libtorch::why_not(flash2.limits, {at::kBFloat16, heads.head_dim});
  if (!refusal.empty())
    return bad_input(
        fmt::format("no kernel of a GPU has attention for {}: set memory.device = \"cpu\", or train a model with such "
                    "heads",
                    refusal));
  return {};
}

const libtorch::Registered registered({"cuda", c10::DeviceType::CUDA, open, trains, kernels});

}  // namespace
}  // namespace memo::gpu
