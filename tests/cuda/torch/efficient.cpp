// Memory-efficient attention with the allocations, refusals and orders of sums of ATen's
// (aten/src/ATen/native/transformers/cuda/attention.cu, attention_backward.cu, and mem_eff_attention beside them for
// its kernels' tiles): the ones of compute capability 8.0 and later.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda/torch/attention_mathematics.h"
#include "tests/cuda/torch/device.h"
#include "tests/cuda/torch/sequences.h"

namespace memo::cuda::emulated::efficient {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using MaybeInt = std::optional<c10::SymInt>;

Maybe given(const Maybe& tensor) { return tensor && tensor->defined() ? tensor : std::nullopt; }

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& starts_q, const Maybe& starts_k) {
  TORCH_CHECK(q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16 || q.scalar_type() == at::kFloat,
              "Only fp32, half & bf16 supported at the moment");
  const std::int64_t aligned = q.scalar_type() == at::kFloat ? 4 : 8;
  for (const Tensor* one : {&q, &k, &v}) {
    TORCH_CHECK(one->dim() == 4 && one->size(0) == q.size(0) && one->size(2) == q.size(2),
                "query, key and value have one batch and one number of heads");
    TORCH_CHECK(one->is_cuda() && one->device() == q.device() && one->scalar_type() == q.scalar_type(),
                "query, key and value are of one device and type");
    TORCH_CHECK(one->stride(-1) == 1, "query, key and value must have contiguous last dimension");
    TORCH_CHECK(one->stride(2) % aligned == 0 && one->stride(1) % aligned == 0, "cutlass: no kernel found to launch!");
  }
  TORCH_CHECK(k.size(1) == v.size(1) && q.size(3) == k.size(3),
              "key and value have one length, query and key one width");
  TORCH_CHECK(starts_q.has_value() == starts_k.has_value(), "both starts or none");
  if (!starts_q) return;
  for (const Tensor* one : {&*starts_q, &*starts_k})
    TORCH_CHECK(one->scalar_type() == at::kInt && one->dim() == 1 && one->is_contiguous() && one->is_cuda(),
                "starts are int32, contiguous, on CUDA");
  TORCH_CHECK(q.size(0) == 1, "cu_seqlen only supports batch_size=1");
}

constexpr int none = 0, from_first = 1, from_last = 2;  // sdp::CustomMaskType
Sight sight_of(std::int64_t mask) {
  TORCH_CHECK(mask == none || mask == from_first || mask == from_last, "unknown custom_mask_type");
  Sight sight;
  if (mask != none) sight.behind = 0;
  sight.from_first = mask == from_first;
  return sight;
}

struct Call {
  Tensor q, k, v, starts_q, starts_k, bias;
  Sight sight;
  double scale = 1;

  Call(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Maybe& bias_, const Maybe& starts_q_,
       const Maybe& starts_k_, std::int64_t mask, std::optional<double> scale_)
      : q(on_host(q_)),
        k(on_host(k_)),
        v(on_host(v_)),
        starts_q(starts_q_ ? on_host(*starts_q_) : Tensor()),
        starts_k(starts_k_ ? on_host(*starts_k_) : Tensor()),
        bias(bias_ ? on_host(*bias_) : Tensor()),
        sight(sight_of(mask)),
        scale(scale_.value_or(1 / std::sqrt(static_cast<double>(q_.size(3))))) {}

  // Calls f(sequence, what its queries see, a function from operands to its rows).
  template <class F>
  void each(const F& f) const {
    for (const Sequence& part : sequences_of(starts_q, starts_k, q.size(0))) {
      Sight seen = sight;
      if (bias.defined())
        seen.bias = bias.expand({q.size(0), q.size(2), q.size(1), k.size(1)})[part.index].to(at::kFloat);
      f(part, seen,
        [&](const Tensor& all, bool keys) { return rows_of(starts_q.defined() ? all[0] : all, part, keys); });
    }
  }
};

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt>;
Forward forward(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& bias_, const Maybe& starts_q_,
                const Maybe& starts_k_, MaybeInt longest_q, MaybeInt longest_k, double dropout, std::int64_t mask,
                bool with_lse, std::optional<double> scale, const Maybe& used, std::optional<std::int64_t> window) {
  TORCH_CHECK(dropout == 0 && !given(used) && !window, "the emulated GPU has no such memory-efficient attention");
  const Maybe bias = given(bias_), starts_q = given(starts_q_), starts_k = given(starts_k_);
  check(q, k, v, starts_q, starts_k);
  TORCH_CHECK(!starts_q || !bias, "cu seqlen + bias not supported");
  TORCH_CHECK(!bias || bias->scalar_type() == q.scalar_type(), "invalid dtype for bias - should match query's dtype");
  TORCH_CHECK(!starts_q || longest_q, "max_seqlen_q required with `cu_seqlens_q`");
  const Current there(q.device());
  const std::int64_t rows = starts_q ? longest_q->expect_int() : q.size(1);
  const std::int64_t keys = starts_q && longest_k ? longest_k->expect_int() : k.size(1);
  const Tensor o = at::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options());
  const Tensor lse =
      at::empty({starts_q ? starts_q->numel() - 1 : q.size(0), q.size(2), with_lse ? rounded(rows, 32) : 0},
                q.options().dtype(at::kFloat));
  Tensor sums;  // of one tile after the other, where a row has more than one
  if (std::max(q.size(3), v.size(3)) > 128 && q.scalar_type() != at::kFloat)
    sums = at::empty(o.sizes(), q.options().dtype(at::kFloat));
  enqueue(q, "aten::_efficient_attention_forward",
          [call = Call(q, k, v, bias, starts_q, starts_k, mask, scale), o = on_host(o), lse = on_host(lse)] {
            call.each([&](const Sequence& part, const Sight& sight, const auto& of) {
              const Tensor rows_of_q = of(call.q, false);
              const Tensor of_lse = lse.numel() > 0 ? lse[part.index].narrow(1, 0, rows_of_q.size(0))
                                                    : at::empty({rows_of_q.size(1), rows_of_q.size(0)}, at::kFloat);
              attend(rows_of_q, of(call.k, true), of(call.v, true), sight, call.scale, of(o, false), of_lse);
            });
          });
  const auto number = at::dtype(at::kLong).device(at::kCPU);
  return {o, lse, at::empty({}, number), at::empty({}, number), rows, keys};
}

// A kernel's tiles and workspace (kernel_backward.h), in the order of cutlassB.h.
struct Tiles {
  std::int64_t queries, keys;
  bool parts_of_keys;  // dK and dV are summed in the workspace

  Tiles(std::int64_t width, bool half)
      : queries(width > 64 ? 128 : 64),
        keys(half && width > 64 && width <= 128 ? 128 : 64),
        parts_of_keys(half && width > 128) {}

  [[nodiscard]] std::int64_t splits(std::int64_t all_keys, std::int64_t batch_heads, MaybeInt wanted) const {
    std::int64_t splits = (all_keys + keys - 1) / keys;
    if (wanted) return std::max<std::int64_t>(std::min(splits, wanted->expect_int()), 1);
    if (batch_heads >= 256 && all_keys <= 2 * keys) splits = 1;
    if (parts_of_keys) splits = std::min(splits, 200 / batch_heads);
    return std::max<std::int64_t>(splits, 1);
  }
  [[nodiscard]] std::int64_t bytes(std::int64_t rows, std::int64_t dim, std::int64_t value_dim,
                                   std::int64_t batch_heads, std::int64_t splits) const {
    std::int64_t floats = 0;
    if (parts_of_keys) floats = splits * keys * (rounded(dim, queries) + rounded(value_dim, queries));
    const std::int64_t tiles = (rounded(rows, queries) / queries) * (rounded(dim, keys) / keys);
    floats += tiles * (4 + queries * keys);  // a lock, a counter, the tile
    return batch_heads * rounded(floats, 4) * 4;
  }
};

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor>;
Backward backward(const Tensor& given_d, const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& bias_,
                  const Tensor& o, const Maybe& starts_q_, const Maybe& starts_k_, c10::SymInt longest_q,
                  c10::SymInt longest_k, const Tensor& lse, double dropout, const Tensor&, const Tensor&,
                  std::int64_t mask, bool bias_gradient, std::optional<double> scale,
                  std::optional<std::int64_t> wanted_splits, std::optional<std::int64_t> window, bool shared) {
  if (!given_d.defined()) return {};
  TORCH_CHECK(dropout == 0 && !bias_gradient && !window && !shared,
              "the emulated GPU has no such memory-efficient attention");
  const Maybe bias = given(bias_), starts_q = given(starts_q_), starts_k = given(starts_k_);
  check(q, k, v, starts_q, starts_k);
  const Current there(q.device());
  const Tensor d = given_d.contiguous();
  const auto contiguous = [](const Tensor& like) { return at::empty(like.sizes(), like.options()); };
  const Tensor dq = contiguous(q), dk = contiguous(k), dv = contiguous(v);
  const bool half = q.scalar_type() != at::kFloat;
  const std::int64_t rows = starts_q ? longest_q.expect_int() : q.size(1);
  const std::int64_t keys = starts_q ? longest_k.expect_int() : k.size(1);
  const std::int64_t batch_heads = (starts_q ? starts_q->numel() - 1 : q.size(0)) * q.size(2);
  const Tensor delta = half ? at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat))
                            : (d * o).sum(-1).transpose(-2, -1).contiguous();
  const Tiles tiles(std::max(q.size(3), v.size(3)), half);
  TORCH_CHECK(!in_one_order() || wanted_splits.value_or(1) <= 1,
              "Using `num_splits_key > 1` makes the algorithm non-deterministic");
  const std::int64_t splits =
      in_one_order() ? 1 : tiles.splits(keys, batch_heads, wanted_splits ? MaybeInt(*wanted_splits) : std::nullopt);
  const Tensor workspace =
      at::empty({tiles.bytes(rows, q.size(3), v.size(3), batch_heads, splits)}, q.options().dtype(at::kByte));
  enqueue(q, "aten::_efficient_attention_backward",
          [call = Call(q, k, v, bias, starts_q, starts_k, mask, scale), d = on_host(d), o = on_host(o),
           lse = on_host(lse), dq = on_host(dq), dk = on_host(dk), dv = on_host(dv),
           order = splits > 1 ? std::optional(another_order()) : std::nullopt] {
            call.each([&](const Sequence& part, const Sight& sight, const auto& of) {
              const Tensor rows_of_q = of(call.q, false);
              attend_backward(of(d, false), rows_of_q, of(call.k, true), of(call.v, true), of(o, false),
                              lse[part.index].narrow(1, 0, rows_of_q.size(0)), sight, call.scale, order,
                              {of(dq, false), of(dk, true), of(dv, true)});
            });
          });
  return {dq, dk, dv, Tensor()};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_efficient_attention_forward", &forward);
  m.impl("_efficient_attention_backward", &backward);
}

}  // namespace memo::cuda::emulated::efficient
