// Kernels on tensors of a GPU: products and attention are LibTorch's, the rest memo/kernels; all run on LibTorch's
// current stream.
#pragma once

#include "memo/libtorch/kernels/table.h"

namespace memo::gpu {

const libtorch::Kernels& kernels();

// attention.cpp's share of the table: bfloat16 only, as flash attention is.
void attention_on_gpu(libtorch::Kernels& table);

}  // namespace memo::gpu
