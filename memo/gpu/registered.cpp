// Enters GPUs into the registry of devices.
#include <fmt/format.h>

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

// Flash attention's limits: flash_api.cpp of LibTorch.
Status trains(const libtorch::OfAttention& heads) {
  constexpr std::int64_t most = 256, step = 8;
  if (heads.dtype != job::DType::bfloat16)
    return bad_input(
        "on a GPU Memo trains in bfloat16 with float32 master weights: set model.dtype = \"bfloat16\", or "
        "memory.device = \"cpu\"");
  if (heads.head_dim > most || heads.head_dim % step != 0)
    return bad_input(
        fmt::format("no kernel of a GPU has attention for heads of {} values; it takes multiples of {} up to {}: set "
                    "memory.device = \"cpu\", or train a model with such heads",
                    heads.head_dim, step, most));
  return {};
}

const libtorch::Registered registered({"cuda", c10::DeviceType::CUDA, open, trains, kernels});

}  // namespace
}  // namespace memo::gpu
