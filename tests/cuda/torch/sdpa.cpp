// Scaled dot product attention: which kernel CUDA takes (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp,
// select_sdp_backend), and flash attention behind it (attention.cu, attention_backward.cu). What flash attention does
// not take goes the mathematical way; CUDA's memory-efficient kernel is not here.
#include <ATen/Context.h>
#include <ATen/SDPBackend.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <torch/library.h>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;

bool takes_flash(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& mask, double dropout, bool causal,
                 bool grouped) {
  const bool half = q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kHalf;
  const bool heads = grouped ? q.size(1) % k.size(1) == 0 : q.size(1) == k.size(1);
  return at::globalContext().userEnabledFlashSDP() && half && !mask && dropout == 0 && q.dim() == 4 &&
         q.size(-1) == v.size(-1) && q.size(-1) <= 256 && q.size(-1) % 8 == 0 && heads &&
         (!causal || q.size(2) == k.size(2)) && q.stride(-1) == 1 && k.stride(-1) == 1 && v.stride(-1) == 1;
}

std::int64_t choose(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& mask, double dropout, bool causal,
                    std::optional<double>, bool grouped) {
  const auto backend =
      takes_flash(q, k, v, mask, dropout, causal, grouped) ? at::SDPBackend::flash_attention : at::SDPBackend::math;
  return static_cast<std::int64_t>(backend);
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;
Forward forward(const Tensor& q, const Tensor& k, const Tensor& v, double dropout, bool causal, bool debug,
                std::optional<double> scale) {
  const std::int64_t rows = q.size(2), keys = k.size(2);
  auto [o, lse, rng_state, unused, mask] =
      at::_flash_attention_forward(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), std::nullopt, std::nullopt,
                                   rows, keys, dropout, causal, debug, scale);
  return {o.transpose(1, 2), lse, Tensor(), Tensor(), rows, keys, rng_state, unused, mask};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                                            const Tensor& o, const Tensor& lse, const Tensor& starts_q,
                                            const Tensor& starts_k, c10::SymInt longest_q, c10::SymInt longest_k,
                                            double dropout, bool causal, const Tensor& rng_state, const Tensor& unused,
                                            std::optional<double> scale) {
  if (!d_o.defined()) return {};
  const auto rows = [](const Tensor& heads) { return heads.transpose(1, 2); };
  auto [dq, dk, dv] = at::_flash_attention_backward(rows(d_o), rows(q), rows(k), rows(v), rows(o), lse, starts_q,
                                                    starts_k, longest_q.expect_int(), longest_k.expect_int(), dropout,
                                                    causal, rng_state, unused, scale);
  return {rows(dq), rows(dk), rows(dv)};
}

// For LibTorch's dispatch by device, beside that by operator.
const bool entered = [] {
  at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&choose);
  return true;
}();

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_fused_sdp_choice", &choose);
  m.impl("_scaled_dot_product_flash_attention", &forward);
  m.impl("_scaled_dot_product_flash_attention_backward", &backward);
}

}  // namespace memo::cuda::emulated
