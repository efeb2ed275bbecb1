// cuDNN's attention with the allocations and limits of ATen's (aten/src/ATen/native/cudnn/MHA.cpp, and
// native/transformers/cuda/attention.cu, attention_backward.cu). What cuDNN itself asks for is not public: its
// backward's workspace here is a guess, dQ and the sums of softmax in float32.
#include <ATen/TensorOperators.h>
#include <ATen/ops/diff.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/cuda/torch/attention_mathematics.h"
#include "tests/cuda/torch/device.h"
#include "tests/cuda/torch/sequences.h"

namespace memo::cuda::emulated::cudnn {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;

Maybe given(const Maybe& tensor) { return tensor && tensor->defined() ? tensor : std::nullopt; }

void check(const Tensor& q, const Tensor& k, const Tensor& v) {
  const bool half = q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16;
  TORCH_CHECK(half && k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type(),
              "cuDNN attention takes fp16 and bf16");
  TORCH_CHECK(q.is_cuda() && k.device() == q.device() && v.device() == q.device(), "operands are on one CUDA device");
  const std::int64_t dim = q.size(-1), value_dim = v.size(-1);
  TORCH_CHECK(dim % 8 == 0 && value_dim % 8 == 0, "head_dim should be a multiple of 8");
  TORCH_CHECK((dim <= 128 && value_dim <= 128) || (dim == 192 && value_dim == 128),
              "head_dim should be no more than 128");
}

// [batch, heads, rows, dim] in the order of dimensions that q has.
Tensor like_query(const Tensor& q, std::vector<std::int64_t> sizes) {
  if (q.sizes() == at::IntArrayRef(sizes)) return at::empty_like(q);
  std::vector<std::int64_t> order(sizes.size()), strides(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return q.stride(a) < q.stride(b); });
  std::int64_t stride = 1;
  for (const std::int64_t d : order) {
    strides[static_cast<std::size_t>(d)] = stride;
    stride *= sizes[static_cast<std::size_t>(d)];
  }
  return at::empty_strided(sizes, strides, q.options());
}

struct Call {
  Tensor q, k, v, starts_q, starts_k, bias;  // [batch, rows, heads, dim], or [tokens, heads, dim]
  Sight sight;
  double scale = 1;

  Call(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Maybe& bias_, const Maybe& starts_q_,
       const Maybe& starts_k_, bool causal, std::optional<double> scale_)
      : q(rows(on_host(q_))),
        k(rows(on_host(k_))),
        v(rows(on_host(v_))),
        starts_q(starts_q_ ? on_host(*starts_q_) : Tensor()),
        starts_k(starts_k_ ? on_host(*starts_k_) : Tensor()),
        bias(bias_ ? on_host(*bias_) : Tensor()),
        scale(scale_.value_or(1 / std::sqrt(static_cast<double>(q_.size(-1))))) {
    if (causal) sight.behind = 0;
    sight.from_first = true;
  }
  static Tensor rows(const Tensor& t) { return t.dim() == 4 ? t.transpose(1, 2) : t; }
  // A sequence's [heads, rows] of [batch, heads, rows, 1] or [tokens, heads, 1].
  [[nodiscard]] Tensor statistics(const Tensor& all, const Sequence& part) const {
    if (all.dim() == 4) return all[part.index].squeeze(-1);
    return all.narrow(0, part.first_q, part.rows).squeeze(-1).transpose(0, 1);
  }
  [[nodiscard]] Sight seen(const Sequence& part) const {
    Sight result = sight;
    if (!bias.defined()) return result;
    const Tensor four = bias.dim() == 4 ? bias : bias.dim() == 3 ? bias.unsqueeze(1) : bias.unsqueeze(0).unsqueeze(0);
    result.bias = four.expand({q.size(0), four.size(1), q.size(1), k.size(1)})[part.index].to(at::kFloat);
    return result;
  }
};

// The offsets that cuDNN reads of documents: lengths, and starts in elements.
std::vector<Tensor> offsets_of(const Tensor& starts_q, const Tensor& starts_k, const Tensor& q, const Tensor& k,
                               const Tensor& v) {
  return {at::diff(starts_q, 1, 0),
          at::diff(starts_k, 1, 0),
          starts_q.mul(q.size(-2) * q.size(-1)),
          starts_k.mul(k.size(-2) * k.size(-1)),
          starts_k.mul(v.size(-2) * v.size(-1)),
          starts_q.mul(q.size(-2))};
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>;
Forward forward(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& bias_, const Maybe& starts_q_,
                const Maybe& starts_k_, c10::SymInt longest_q, c10::SymInt longest_k, bool with_lse, double dropout,
                bool causal, bool, std::optional<double> scale) {
  TORCH_CHECK(dropout == 0, "the emulated GPU has no dropout in cuDNN's attention");
  check(q, k, v);
  const Maybe bias = given(bias_), starts_q = given(starts_q_), starts_k = given(starts_k_);
  const Current there(q.device());
  const auto number = q.options().dtype(at::kLong);
  const Tensor seed = at::empty({}, number), offset = at::empty({}, number);
  const auto floats = q.options().dtype(at::kFloat);
  Tensor o, lse;
  std::vector<Tensor> offsets;
  if (starts_q) {
    TORCH_CHECK(!bias, "attn_bias not yet supportd with cuDNN Attention and NestedTensor");
    o = at::empty({q.size(0), q.size(-2), v.size(-1)}, q.options());
    if (with_lse) lse = at::empty({q.size(0), q.size(-2), 1}, floats);
    offsets = offsets_of(*starts_q, *starts_k, q, k, v);
  } else {
    o = like_query(q, {q.size(0), q.size(1), q.size(2), v.size(3)});
    if (with_lse) lse = at::empty({q.size(0), q.size(1), q.size(2), 1}, floats);
  }
  enqueue(q, "aten::_cudnn_attention_forward",
          [call = Call(q, k, v, bias, starts_q, starts_k, causal, scale), o = Call::rows(on_host(o)),
           lse = lse.defined() ? on_host(lse) : Tensor()] {
            for (const Sequence& part : sequences_of(call.starts_q, call.starts_k, call.q.size(0))) {
              const Tensor rows = rows_of(call.q, part, false);
              attend(rows, rows_of(call.k, part, true), rows_of(call.v, part, true), call.seen(part), call.scale,
                     rows_of(o, part, false),
                     lse.defined() ? call.statistics(lse, part) : at::empty({rows.size(1), rows.size(0)}, at::kFloat));
            }
          });
  return {o,      lse,     starts_q.value_or(Tensor()), starts_k.value_or(Tensor()), longest_q, longest_k, seed,
          offset, Tensor()};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& given_d, const Tensor& q, const Tensor& k, const Tensor& v,
                                            const Tensor& o, const Tensor& lse, const Tensor&, const Tensor&,
                                            const Tensor& bias, const Tensor& starts_q, const Tensor& starts_k,
                                            c10::SymInt, c10::SymInt, double dropout, bool causal,
                                            std::optional<double> scale) {
  TORCH_CHECK(dropout == 0, "the emulated GPU has no dropout in cuDNN's attention");
  check(q, k, v);
  const Current there(q.device());
  const Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
  Tensor d = given_d;
  if (d.stride(-1) != 1) d = at::empty_like(o).copy_(given_d);
  std::vector<Tensor> offsets;
  if (starts_q.defined()) offsets = offsets_of(starts_q, starts_k, q, k, v);
  const Tensor workspace = at::empty({q.numel() + q.numel() / q.size(-1)}, q.options().dtype(at::kFloat));
  enqueue(q, "aten::_cudnn_attention_backward",
          [call = Call(q, k, v, given(bias), given(starts_q), given(starts_k), causal, scale),
           d = Call::rows(on_host(d)), o = Call::rows(on_host(o)), lse = on_host(lse), dq = Call::rows(on_host(dq)),
           dk = Call::rows(on_host(dk)), dv = Call::rows(on_host(dv)), order = another_order()] {
            const std::int64_t key_heads = call.k.size(-2), repeat = call.q.size(-2) / key_heads;
            for (const Sequence& part : sequences_of(call.starts_q, call.starts_k, call.q.size(0))) {
              const Tensor of_q = rows_of(call.q, part, false), of_k = rows_of(call.k, part, true);
              const Tensor of_v = rows_of(call.v, part, true);
              const auto by_head = [&](const Tensor& t) {
                return at::empty({t.size(0), of_q.size(1), t.size(2)}, at::kFloat);
              };
              const Tensor k_heads = by_head(of_k), v_heads = by_head(of_v);
              attend_backward(rows_of(d, part, false), of_q, of_k, of_v, rows_of(o, part, false),
                              call.statistics(lse, part), call.seen(part), call.scale, order,
                              {rows_of(dq, part, false), k_heads, v_heads});
              rows_of(dk, part, true).copy_(k_heads.unflatten(1, {key_heads, repeat}).sum(2));
              rows_of(dv, part, true).copy_(v_heads.unflatten(1, {key_heads, repeat}).sum(2));
            }
          });
  return {dq, dk, dv};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_cudnn_attention_forward", &forward);
  m.impl("_cudnn_attention_backward", &backward);
}

}  // namespace memo::cuda::emulated::cudnn
