// The GPU that LibTorch sees.
#pragma once

#include "memo/cuda/device.h"
#include "memo/libtorch/memory/device.h"

namespace memo::gpu {

// Fails where there is no GPU, or more than one, or one that is too old. On the legacy default stream, which is
// LibTorch's default, calls are in order with what others do on it; `run` then throws where LibTorch is on another.
Result<std::unique_ptr<libtorch::Device>> open_cuda_device(
    cuda::Device::Compute compute = cuda::Device::Compute::own_stream);

}  // namespace memo::gpu
