// The kernels of attention on a GPU, and what they have in common. All take bfloat16.
#pragma once

#include <span>

#include "memo/libtorch/kernels/attention_table.h"

namespace memo::gpu {

std::span<const libtorch::AttentionKernel> attention();
extern const libtorch::AttentionKernel flash2, cudnn;

// Columns of rows as heads: [tokens, count, dim].
at::Tensor heads_at(const at::Tensor& rows, std::int64_t first, std::int64_t count, std::int64_t dim);

// The rows of the queries of `range` from a kernel's o, and the kernel's lse [queries, rows] as float32 [rows,
// queries], with what masks say about queries that see no key.
std::tuple<at::Tensor, at::Tensor> finished(const at::Tensor& o, const at::Tensor& lse, const at::Tensor& qkv,
                                            const libtorch::GroupHeads& heads, const libtorch::Mask& mask,
                                            const libtorch::QueryRange& range);
// The same of a kernel's gradients.
std::tuple<at::Tensor, at::Tensor, at::Tensor> finished(const std::tuple<at::Tensor, at::Tensor, at::Tensor>& gradients,
                                                        const at::Tensor& d_o, const at::Tensor& qkv,
                                                        const libtorch::GroupHeads& heads, const libtorch::Mask& mask);

}  // namespace memo::gpu
