// Causal attention of one head group over the whole sequence, on strided rows in place: nothing of the sequence's size
// is copied. These call the first kernel of the device's table (attention_table.h). On the CPU attention_kernels.h has
// the kernels; the code behind this header gives them memory and threads. The recorder sees this memory as requests
// whose number is fixed and whose sizes grow linearly with the tokens. The bits do not depend on the number of threads.
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
// range, computes only the rows of its queries, to the same bits, and reads qkv only up to the last of them.
std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads,
                                                    const Mask& mask = {}, std::optional<QueryRange> range = {});

// dq [S, queries dim], dk and dv [S, keys dim] from d_o [S, queries dim]. Needs 4 S queries bytes, for bfloat16
// operands 4 S queries dim bytes more (dq is summed in float32), and a few MiB a thread.
std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads,
                                                                         const Mask& mask = {});

}  // namespace memo::libtorch
