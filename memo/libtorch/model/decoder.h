// The mathematics of a decoder, one token block or one head group at a time. Token-wise segments are autograd graphs of
// fused functions that save only what they must; parameter gradients accumulate in place inside the backward matrix
// product. Operands and results are plain memory: the allocator decides where outputs lie
// (memo/libtorch/memory/allocator.h).
//
// Shapes: T tokens of a block, S of the sequence, h hidden, F ffn, V vocabulary, D head_dim, G head groups; a group has
// Hg = heads / G query heads and Kg = kv_heads / G key heads. dtype float32 or bfloat16; statistics, parameter
// gradients and the log-sum-exp are float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "memo/libtorch/kernels/attention_table.h"
#include "memo/libtorch/kernels/loss_sum.h"
#include "memo/libtorch/kernels/parameter.h"
#include "memo/model/parameters.h"
#include "memo/model/shape.h"

namespace memo::libtorch {

class Decoder {
 public:
  // `parameters` in the order of model::parameters(shape). `groups` divides kv_heads. `loss_tile`: rows whose logits
  // are computed together; 0: a CPU's (model::DeviceSizes). `kernel`: of attention; null: the first of the parameters'
  // device.
  Decoder(const model::Shape& shape, int groups, std::vector<Parameter> parameters, Tokens loss_tile = Tokens(0),
          const AttentionKernel* kernel = nullptr);
  ~Decoder();

  // `positions` [T] int64: the position of each token in its document.
  at::Tensor embedding(const at::Tensor& tokens, const at::Tensor& positions) const;  // [T] int64 -> x [T, h]
  void embedding_backward(const at::Tensor& tokens, const at::Tensor& positions, const at::Tensor& d) const;

  // Differentiable in x: qkv_g [T, (Hg + 2 Kg) D] per group, columns q|k|v head by head, rotated.
  std::vector<at::Tensor> attn_in(model::LayerIndex layer, const at::Tensor& x, const at::Tensor& positions) const;
  // Differentiable in o (o_g [T, Hg D] per group), but not in the residual x: x1 = x + out(o) [T, h].
  at::Tensor attn_out(model::LayerIndex layer, const at::Tensor& x, const std::vector<at::Tensor>& o) const;
  // Differentiable in x1: h [T, 2F] gate|up, or [T, F].
  at::Tensor mlp_in(model::LayerIndex layer, const at::Tensor& x1) const;
  // Differentiable in h, but not in the residual x1: x of the next layer [T, h].
  at::Tensor mlp_out(model::LayerIndex layer, const at::Tensor& x1, const at::Tensor& h) const;

  // Causal attention of one group: qkv_g [S, (Hg + 2 Kg) D] -> o_g [S, Hg D], lse_g [S, Hg] float32. It stays inside of
  // the model's window, and of each document where `document_starts` is not empty (attention_mask.h).
  std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& qkv,
                                               std::span<const std::int64_t> document_starts = {}) const;
  // Gradients dq_g [S, Hg D], dk_g, dv_g [S, Kg D] from do_g [S, Hg D]. `any_order`: as in attention_mask.h.
  std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                    const at::Tensor& o, const at::Tensor& lse,
                                                                    std::span<const std::int64_t> document_starts = {},
                                                                    bool any_order = false) const;

  // Final norm, LM head and cross entropy, forward and backward together, in tiles of rows: adds each token's loss
  // (natural log) to `loss_sum` and returns d = scale * d(loss_sum)/dx [T, h]; accumulates the gradients of head and
  // final norm. `targets` [T] int64; < 0: no loss there.
  at::Tensor loss(const at::Tensor& x, const at::Tensor& targets, double scale, LossSum& loss_sum) const;
  // Losses of each token [T] float32, forward only.
  at::Tensor token_losses(const at::Tensor& x, const at::Tensor& targets) const;
  at::Tensor logits(const at::Tensor& x) const;  // [T, V] float32

  [[nodiscard]] const model::Shape& shape() const;
  [[nodiscard]] int groups() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace memo::libtorch
