// The GPU that LibTorch sees.
#pragma once

#include "memo/torch/device.h"

namespace memo::gpu {

// Fails where there is no GPU, or more than one, or one that is too old.
Result<std::unique_ptr<edge::Device>> open_cuda_device();

}  // namespace memo::gpu
