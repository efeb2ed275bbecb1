// Attention over a sequence that is split over ranks: each rank has all heads of its own tokens, and during attention
// some heads of all tokens (DeepSpeed-Ulysses, arXiv 2309.14509).
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "memo/libtorch/kernels/attention_table.h"
#include "memo/plugin/layer_calls.h"

namespace memo::plugin {

// Like the kernel's forward and backward for a group's `heads`. Rows are the S tokens of this rank; tokens of
// rank r come before those of rank r + 1. Each rank computes its share of the query heads and key heads; where key
// heads are fewer than ranks, several ranks get copies of one. The log-sum-exp [S, queries] holds that of this rank's
// heads for all tokens, [ranks S, queries / ranks]. During the attention of one key head, the next one's rows arrive
// and the last one's results leave.
std::tuple<at::Tensor, at::Tensor> split_attention(const at::Tensor& qkv, const libtorch::GroupHeads& heads,
                                                   const libtorch::Mask& mask, LayerCalls& calls,
                                                   const libtorch::AttentionKernel& kernel);
std::tuple<at::Tensor, at::Tensor, at::Tensor> split_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                        const at::Tensor& o, const at::Tensor& lse,
                                                                        const libtorch::GroupHeads& heads,
                                                                        const libtorch::Mask& mask, LayerCalls& calls,
                                                                        const libtorch::AttentionKernel& kernel);

}  // namespace memo::plugin
