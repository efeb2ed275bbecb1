// Queries that see no key, of masks that are a large negative number (Mask::row): the softmax of scores that are all
// one number is even over all keys of the query's row, those behind it too.
#pragma once

#include <ATen/core/Tensor.h>

#include "memo/libtorch/kernels/attention_mask.h"

namespace memo::libtorch {

// Writes their rows of o [S, queries dim]: the means of the values.
void attend_evenly(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask, const at::Tensor& o);
// Writes their rows of dq, and adds to dk and dv what they give to the keys and values of their rows.
void attend_evenly_backward(const at::Tensor& d_o, const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                            const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv);

}  // namespace memo::libtorch
