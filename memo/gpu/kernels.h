// The GPU's table of kernels: products and attention are LibTorch's, the rest are memo/kernels; all run on LibTorch's
// current stream.
#pragma once

#include "memo/libtorch/kernels/table.h"

namespace memo::gpu {

const libtorch::Kernels& kernels();

// Enters the functions of attention.cpp into the table; like flash attention, they take bfloat16 only.
void attention_on_gpu(libtorch::Kernels& table);

}  // namespace memo::gpu
