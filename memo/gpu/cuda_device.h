// Opens the GPU that LibTorch sees as a device of tensors.
#pragma once

#include "memo/cuda/device.h"
#include "memo/libtorch/memory/device.h"

namespace memo::gpu {

// Opens GPU `index`; fails where there is none, or one that is too old. On the legacy default stream, which is
// LibTorch's default, calls are in order with the caller's other work; `run` then throws where LibTorch's current
// stream is another one.
Result<std::unique_ptr<libtorch::Device>> open_cuda_device(
    cuda::Device::Compute compute = cuda::Device::Compute::own_stream, int index = 0);

}  // namespace memo::gpu
