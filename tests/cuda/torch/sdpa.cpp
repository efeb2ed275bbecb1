// Scaled dot product attention: which kernel CUDA takes (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp,
// select_sdp_backend, by LibTorch's own checks in sdp_utils_cpp.h), and the kernels behind it (attention.cu,
// attention_backward.cu). Of the wheels for CUDA 13 on compute capability 9.0, whose cuDNN is 9.15.1 or later.
#include <ATen/Context.h>
#include <ATen/SDPBackend.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/_cudnn_attention_backward.h>
#include <ATen/ops/_cudnn_attention_forward.h>
#include <ATen/ops/_efficient_attention_backward.h>
#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <c10/util/env.h>
#include <torch/library.h>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using Backend = at::SDPBackend;
using Call = sdp::sdp_params;

bool half(const Call& x) {
  const auto type = x.query.scalar_type();
  return (type == at::kBFloat16 || type == at::kHalf) && x.key.scalar_type() == type && x.value.scalar_type() == type;
}

bool takes_cudnn(const Call& x) {
  if (!at::globalContext().userEnabledCuDNNSDP() || in_one_order() || !half(x)) return false;
  if (!sdp::check_tensor_shapes(x, false) || !sdp::check_attn_mask_shape(x, false)) return false;
  const std::int64_t dim = x.query.size(3), value_dim = x.value.size(3);
  const bool fits = (dim <= 128 && value_dim <= 128) || (dim == 192 && value_dim == 128);
  const bool few = x.query.size(0) <= 65535 && x.query.size(1) <= 65535;
  return x.dropout * 16 == std::floor(x.dropout * 16) && sdp::check_nonzero_sequence_lengths_dense(x, false) &&
         sdp::check_last_dim_stride_equals_1_dense<true>(x, false) &&
         sdp::check_batch_size_and_num_heads_dense<true, false>(x, false) && fits && few && dim % 8 == 0 &&
         value_dim % 8 == 0 && x.key.size(2) != 1 && (x.dropout == 0 || x.query.size(2) != 1);
}

bool takes_flash(const Call& x) {
  if (!sdp::check_runtime_disabled_flash(x, false) || !half(x) || x.attn_mask) return false;
  if (!sdp::check_tensor_shapes(x, false)) return false;
  const std::int64_t dim = x.query.size(3);
  return dim == x.key.size(3) && dim == x.value.size(3) && dim <= 256 &&
         (!x.is_causal || x.query.size(2) == x.key.size(2)) &&
         sdp::check_batch_size_and_num_heads_dense<true>(x, false) &&
         sdp::check_nonzero_sequence_lengths_dense(x, false) &&
         sdp::check_last_dim_stride_equals_1_dense<true>(x, false);
}

bool takes_efficient(const Call& x) {
  if (!sdp::check_runtime_disabled_mem_efficient(x, false) || !sdp::check_tensor_shapes(x, false)) return false;
  const bool single =
      x.query.scalar_type() == at::kFloat && x.key.scalar_type() == at::kFloat && x.value.scalar_type() == at::kFloat;
  const std::int64_t dim = x.query.size(3), value_dim = x.value.size(3), aligned = single ? 4 : 8;
  return (single || half(x)) && dim == x.key.size(3) && dim > 0 && dim % aligned == 0 && value_dim > 0 &&
         value_dim % aligned == 0 && sdp::check_nonzero_sequence_lengths_dense(x, false) &&
         sdp::check_last_dim_stride_equals_1_dense<false>(x, false) &&
         sdp::check_batch_size_and_num_heads_dense<false>(x, false);
}

// cuDNN first, unless the user says otherwise.
std::array<Backend, at::num_sdp_backends> order() {
  static const bool preferred = [] {
    if (c10::utils::check_env("TORCH_CUDNN_SDPA_DEPRIORITIZED") == true) return false;
    std::vector<std::int64_t> backends;
    for (const Backend one :
         {Backend::cudnn_attention, Backend::flash_attention, Backend::efficient_attention, Backend::math})
      backends.push_back(static_cast<std::int64_t>(one));
    at::globalContext().setSDPPriorityOrder(backends);
    return true;
  }();
  static_cast<void>(preferred);
  return at::globalContext().sDPPriorityOrder();
}

std::int64_t choose(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& mask, double dropout, bool causal,
                    std::optional<double>, bool grouped) {
  const Call x{q, k, v, mask, dropout, causal, grouped};
  for (const Backend one : order()) {
    const bool takes = one == Backend::cudnn_attention       ? takes_cudnn(x)
                       : one == Backend::flash_attention     ? takes_flash(x)
                       : one == Backend::efficient_attention ? takes_efficient(x)
                       : one == Backend::math                ? at::globalContext().userEnabledMathSDP()
                                                             : false;
    if (takes) return static_cast<std::int64_t>(one);
  }
  TORCH_CHECK(false, "No available kernel. Aborting execution.");
}

Tensor rows(const Tensor& heads) { return heads.transpose(1, 2); }

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;
Forward flash(const Tensor& q, const Tensor& k, const Tensor& v, double dropout, bool causal, bool debug,
              std::optional<double> scale) {
  const std::int64_t count = q.size(2), keys = k.size(2);
  auto [o, lse, rng_state, unused, mask] = at::_flash_attention_forward(
      rows(q), rows(k), rows(v), std::nullopt, std::nullopt, count, keys, dropout, causal, debug, scale);
  return {rows(o), lse, Tensor(), Tensor(), count, keys, rng_state, unused, mask};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor>;
Gradients flash_backward(const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                         const Tensor& lse, const Tensor& starts_q, const Tensor& starts_k, c10::SymInt longest_q,
                         c10::SymInt longest_k, double dropout, bool causal, const Tensor& rng_state,
                         const Tensor& unused, std::optional<double> scale) {
  if (!d_o.defined()) return {};
  auto [dq, dk, dv] = at::_flash_attention_backward(rows(d_o), rows(q), rows(k), rows(v), rows(o), lse, starts_q,
                                                    starts_k, longest_q.expect_int(), longest_k.expect_int(), dropout,
                                                    causal, rng_state, unused, scale);
  return {rows(dq), rows(dk), rows(dv)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient(const Tensor& q, const Tensor& k, const Tensor& v,
                                                     const Maybe& bias, bool with_lse, double dropout, bool causal,
                                                     std::optional<double> scale) {
  auto [o, lse, seed, offset, longest_q, longest_k] =
      at::_efficient_attention_forward(rows(q), rows(k), rows(v), bias, std::nullopt, std::nullopt, std::nullopt,
                                       std::nullopt, dropout, causal ? 1 : 0, with_lse, scale);
  return {rows(o), lse, seed, offset};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> efficient_backward(const Tensor& d_o, const Tensor& q, const Tensor& k,
                                                              const Tensor& v, const Tensor& bias, const Tensor& o,
                                                              const Tensor& lse, const Tensor& seed,
                                                              const Tensor& offset, double dropout,
                                                              std::array<bool, 4> wanted, bool causal,
                                                              std::optional<double> scale) {
  if (!d_o.defined()) return {};
  auto [dq, dk, dv, d_bias] = at::_efficient_attention_backward(
      rows(d_o), rows(q), rows(k), rows(v), bias.defined() ? Maybe(bias) : std::nullopt, rows(o), std::nullopt,
      std::nullopt, q.size(2), k.size(2), lse, dropout, seed, offset, causal ? 1 : 0, wanted[3], scale);
  return {rows(dq), rows(dk), rows(dv), d_bias};
}

Forward cudnn(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& bias, bool with_lse, double dropout,
              bool causal, bool debug, std::optional<double> scale) {
  return at::_cudnn_attention_forward(q, k, v, bias, std::nullopt, std::nullopt, q.size(2), k.size(2), with_lse,
                                      dropout, causal, debug, scale);
}

Gradients cudnn_backward(const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                         const Tensor& lse, const Tensor& seed, const Tensor& offset, const Tensor& bias,
                         const Tensor& starts_q, const Tensor& starts_k, c10::SymInt longest_q, c10::SymInt longest_k,
                         double dropout, bool causal, std::optional<double> scale) {
  return at::_cudnn_attention_backward(d_o, q, k, v, o, lse, seed, offset, bias, starts_q, starts_k,
                                       longest_q.expect_int(), longest_k.expect_int(), dropout, causal, scale);
}

// For LibTorch's dispatch by device, beside that by operator.
const bool entered = [] {
  at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&choose);
  return true;
}();

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_fused_sdp_choice", &choose);
  m.impl("_scaled_dot_product_flash_attention", &flash);
  m.impl("_scaled_dot_product_flash_attention_backward", &flash_backward);
  m.impl("_scaled_dot_product_efficient_attention", &efficient);
  m.impl("_scaled_dot_product_efficient_attention_backward", &efficient_backward);
  m.impl("_scaled_dot_product_cudnn_attention", &cudnn);
  m.impl("_scaled_dot_product_cudnn_attention_backward", &cudnn_backward);
}

}  // namespace memo::cuda::emulated
