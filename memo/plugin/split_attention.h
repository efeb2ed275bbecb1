// Attention over a sequence that is split over ranks: each rank has all heads of its tokens, and for the time of
// attention some heads of all tokens (DeepSpeed-Ulysses, arXiv 2309.14509).
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "memo/libtorch/kernels/attention_mask.h"
#include "memo/plugin/layer_calls.h"

namespace memo::plugin {

// As libtorch::causal_attention and its backward for a group's `heads`: rows are of the S tokens of this rank, and
// tokens of rank r come before those of rank r + 1. Each rank has its part of the query heads, and of the key heads;
// where keys are fewer than ranks, ranks have copies. The log-sum-exp [S, queries] holds that of this rank's heads for
// all tokens, [ranks S, queries / ranks]. While one key head is attended to, the next one's rows come and the last
// one's results go.
std::tuple<at::Tensor, at::Tensor> split_attention(const at::Tensor& qkv, const libtorch::GroupHeads& heads,
                                                   const libtorch::Mask& mask, LayerCalls& calls);
std::tuple<at::Tensor, at::Tensor, at::Tensor> split_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                        const at::Tensor& o, const at::Tensor& lse,
                                                                        const libtorch::GroupHeads& heads,
                                                                        const libtorch::Mask& mask, LayerCalls& calls);

}  // namespace memo::plugin
