// Causal attention of one head group over the whole sequence, on strided rows as they lie: nothing of the sequence's
// size is copied. The kernels are in attention_kernels.h; here are their memory, which the recorder sees as requests
// whose number is fixed and whose sizes are linear in the tokens, and their threads. The bits do not depend on the
// number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "memo/libtorch/kernels/attention_mask.h"

namespace memo::libtorch {

struct QueryRange {
  std::int64_t first, last;  // queries [first, last)
};

// qkv [S, (queries + 2 keys) dim], columns q|k|v head by head -> o [S, queries dim], lse [S, queries] float32. With a
// range, the rows of these queries only, the same bits; qkv is not read beyond the last one.
std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads,
                                                    const Mask& mask = {}, std::optional<QueryRange> range = {});

// dq [S, queries dim], dk and dv [S, keys dim] from d_o [S, queries dim]. Works in 4 S queries bytes, of bfloat16
// operands in 4 S queries dim bytes more (dq is summed in float32), and in a few MiB a thread.
std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads,
                                                                         const Mask& mask = {});

}  // namespace memo::libtorch
