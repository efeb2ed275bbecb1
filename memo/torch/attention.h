// Causal attention of one head group over the whole sequence: LibTorch's flash attention for CPUs on strided views of
// the group's q|k|v, so that nothing is copied and key heads are shared by their queries.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

namespace memo::edge {

struct GroupHeads {
  std::int64_t queries, keys, dim;
};

// qkv [S, (queries + 2 keys) dim] -> o [S, queries dim], lse [S, queries] float32.
std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads);

// dq [S, queries dim], dk and dv [S, keys dim] from d_o [S, queries dim]. Of bfloat16 operands it works on float32
// copies.
std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads);

}  // namespace memo::edge
