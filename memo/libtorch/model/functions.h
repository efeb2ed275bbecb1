// The token-wise pieces of a layer. Each is one node of autograd's graph that saves one or two tensors through the
// saved-tensor hooks, holds its parameters by value, and accumulates their gradients in place.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "memo/libtorch/kernels/kernels.h"

namespace memo::libtorch {

struct Linear {
  Parameter weight, bias;  // bias undefined: none
};

// norm(x) weight' + bias. Saves x.
at::Tensor norm_linear(const at::Tensor& x, const Norm& norm, const Linear& linear);

// norm(x) weight' + bias, then split_heads. Saves x, and where heads are normed, also the input of their norms.
std::vector<at::Tensor> norm_heads(const at::Tensor& x, const Norm& norm, const Linear& linear, const Heads& heads,
                                   const at::Tensor& positions);

// residual + [o_0 | o_1 | ...] weight' + bias; not differentiable in the residual. Saves the o's.
at::Tensor add_heads(const at::Tensor& residual, const std::vector<at::Tensor>& o, const Linear& linear);

// residual + activation(h) weight' + bias; not differentiable in the residual. Saves h.
at::Tensor add_activated(const at::Tensor& residual, const at::Tensor& h, model::Activation activation,
                         const Linear& linear);

}  // namespace memo::libtorch
