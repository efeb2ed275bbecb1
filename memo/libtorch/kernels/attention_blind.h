// Attention of queries that see no key, under masks that add a large negative number to scores (Mask::row). All scores
// of such a query are the same number, so its softmax is even over all keys of its row, including those after it.
#pragma once

#include <ATen/core/Tensor.h>

#include "memo/libtorch/kernels/attention_mask.h"

namespace memo::libtorch {

// Writes the rows of o [S, queries dim] of such queries: the means of the values.
void attend_evenly(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask, const at::Tensor& o);
// Writes their rows of dq, and adds their part to dk and dv of the keys and values of their rows.
void attend_evenly_backward(const at::Tensor& d_o, const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                            const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv);

}  // namespace memo::libtorch
