// The GPU's table of kernels: products and attention (attention.h) are LibTorch's, the rest are memo/kernels; all run
// on LibTorch's current stream.
#pragma once

#include "memo/libtorch/kernels/table.h"

namespace memo::gpu {

const libtorch::Kernels& kernels();

}  // namespace memo::gpu
