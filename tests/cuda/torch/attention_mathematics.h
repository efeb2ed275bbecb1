// Attention of one sequence on the host, by tiles of query rows, in float32 from bfloat16 or float16 operands.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace memo::cuda::emulated {

struct Sight {
  std::optional<std::int64_t> before, behind;  // how many keys before and behind its own a query sees; none: all
  bool from_first = false;                     // which key is its own: aligned to the first ones, or to the last
  at::Tensor bias;                             // [1 or heads, 1 or rows, keys], added to scores; undefined: none
};

// q, o [rows, heads, dim], k, v [keys, key heads, dim], lse [heads, rows] float32: writes o and lse. A query that sees
// no key has an o of 0 and an lse of infinity.
void attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Sight& sight, double scale,
            const at::Tensor& o, const at::Tensor& lse);

struct AttentionGradients {
  at::Tensor q, k, v;  // of query heads all three
};
// Writes gradients, of keys for each query head. dQ is summed over tiles of keys in the order that `order` draws, or
// from the first to the last where it is empty.
void attend_backward(const at::Tensor& d_o, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& o, const at::Tensor& lse, const Sight& sight, double scale,
                     std::optional<std::uint64_t> order, const AttentionGradients& gradients);

}  // namespace memo::cuda::emulated
