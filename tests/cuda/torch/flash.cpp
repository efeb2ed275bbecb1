// Flash attention with the allocations, refusals and orders of sums of ATen's: flash_attn/flash_api.cpp (mha_fwd,
// mha_varlen_fwd, mha_bwd, mha_varlen_bwd) and attention.cu, attention_backward.cu beside it.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>
#include <vector>

#include "tests/cuda/torch/attention_mathematics.h"
#include "tests/cuda/torch/device.h"
#include "tests/cuda/torch/planted.h"
#include "tests/cuda/torch/sequences.h"
#include "tests/cuda/torch/split_kv.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using MaybeInt = std::optional<c10::SymInt>;

Tensor floats(at::IntArrayRef sizes, const Tensor& like) { return at::empty(sizes, like.options().dtype(at::kFloat)); }

void check(const Tensor& q, const Tensor& k, const Tensor& v) {
  TORCH_CHECK(q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16,
              "FlashAttention only support fp16 and bf16 data type");
  TORCH_CHECK(k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type(),
              "query, key and value must have the same dtype");
  for (const Tensor* one : {&q, &k, &v}) {
    TORCH_CHECK(one->device() == q.device() && one->is_cuda(), "query, key and value must be on one CUDA device");
    TORCH_CHECK(one->stride(-1) == 1, "Input tensor must have contiguous last dimension");
  }
  TORCH_CHECK(q.size(-1) % 8 == 0, "head_size must be a multiple of 8, this is ensured by padding!");
  TORCH_CHECK(q.size(-1) <= 256, "FlashAttention forward only supports head dimension at most 256");
  TORCH_CHECK(q.size(-2) % k.size(-2) == 0, "Number of heads in key/value must divide number of heads in query");
}

void check_starts(const Tensor& starts, const Tensor& q) {
  TORCH_CHECK(starts.scalar_type() == at::kInt, "cu_seqlens must have dtype int32");
  TORCH_CHECK(starts.device() == q.device() && starts.is_contiguous(), "cu_seqlens must be contiguous, on CUDA");
}

Sight sight_of(bool causal, const MaybeInt& before, const MaybeInt& behind, std::int64_t longest) {
  Sight sight;
  const auto limit = [&](const MaybeInt& given) -> std::optional<std::int64_t> {
    if (!given) return std::nullopt;
    const std::int64_t value = given->expect_int();
    return value < 0 || value >= longest ? std::nullopt : std::optional(value);
  };
  sight.before = limit(before);
  sight.behind = causal ? std::optional<std::int64_t>(0) : limit(behind);
  return sight;
}

Tensor lse_of(const Tensor& all, const Sequence& part) {  // [heads, rows]
  return all.dim() == 3 ? all[part.index] : all.narrow(1, part.first_q, part.rows);
}

// Queries of one row whose keys are shared by several heads: these heads become the rows of a sequence, and keys may be
// split.
struct Grouped {
  Grouped(const Tensor& given, const Tensor& k, bool apart, std::int64_t batch, std::int64_t longest,
          const Sight& sight) {
    const std::int64_t heads = given.size(-2), key_heads = k.size(-2);
    if (longest != 1 || heads == key_heads || sight.before || sight.behind) return;
    rows = heads / key_heads;
    q = turned(given, batch, key_heads, apart);
  }
  [[nodiscard]] Tensor turned(const Tensor& x, std::int64_t batch, std::int64_t key_heads, bool apart) const {
    const Tensor y = x.reshape({batch, key_heads, rows, x.size(-1)}).transpose(1, 2);
    return apart ? y.reshape({batch * rows, key_heads, x.size(-1)}) : y;
  }
  [[nodiscard]] Tensor back(const Tensor& y, std::int64_t batch, bool apart) const {
    const std::int64_t key_heads = y.size(-2), dim = y.size(-1);
    const Tensor x = y.reshape({batch, rows, key_heads, dim}).transpose(1, 2);
    return apart ? x.reshape({batch, key_heads * rows, dim}) : x.reshape({batch, 1, key_heads * rows, dim});
  }
  // Without the queries: work that waits on a stream holds no memory of the GPU.
  [[nodiscard]] Grouped shape() const {
    Grouped copy = *this;
    copy.q = Tensor();
    return copy;
  }
  std::int64_t rows = 0;  // 0: other queries
  Tensor q;
};

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
Forward forward(const Tensor& q, const Tensor& k, const Tensor& v, const Maybe& starts_q, const Maybe& starts_k,
                c10::SymInt longest_q, c10::SymInt longest_k, double dropout, bool causal, bool,
                std::optional<double> scale, MaybeInt before, MaybeInt behind, const Maybe& used, const Maybe& slopes,
                const Maybe& pages, std::optional<std::int64_t>) {
  TORCH_CHECK(dropout == 0 && !used && !slopes && !pages, "the emulated GPU has no such flash attention");
  check(q, k, v);
  const bool apart = starts_q && starts_q->defined();
  if (apart) check_starts(*starts_q, q), check_starts(*starts_k, q);
  const std::int64_t heads = q.size(-2), dim = q.size(-1);
  const std::int64_t keys = apart ? longest_k.expect_int() : k.size(1);
  const std::int64_t longest = apart ? longest_q.expect_int() : q.size(1);
  const Sight sight = sight_of(causal && longest != 1, before, behind, keys);
  const Current there(q.device());
  const std::int64_t batch = apart ? starts_q->numel() - 1 : q.size(0);
  const Grouped grouped(q, k, apart, batch, longest, sight);
  Tensor o = at::empty_like(grouped.rows > 0 ? grouped.q : q);
  const Tensor lse = apart ? floats({heads, q.size(0)}, q) : floats({batch, heads, q.size(1)}, q);
  Tensor split_lse, split_o;
  const std::int64_t rows = grouped.rows > 0 ? grouped.rows : longest, row_heads = heads * longest / rows;
  const bool may_split = !apart || grouped.rows > 0;
  if (const int splits = may_split ? splits_of(batch * row_heads, rows, keys, dim) : 1; splits > 1) {
    split_lse = floats({splits, batch, row_heads, rows}, q);
    split_o = floats({splits, batch, row_heads, rows, rounded(dim, dim <= 128 ? 32 : 64)}, q);
  }
  const auto numbers = q.options().dtype(at::kUInt64);
  const Tensor rng_state = at::empty({2}, numbers), unused = at::empty({}, numbers);
  enqueue(q, "aten::_flash_attention_forward",
          [q = on_host(q), k = on_host(k), v = on_host(v), o = on_host(o), lse = on_host(lse),
           starts_q = apart ? on_host(*starts_q) : Tensor(), starts_k = apart ? on_host(*starts_k) : Tensor(), sight,
           scale = scale.value_or(1 / std::sqrt(static_cast<double>(dim))), grouped = grouped.shape(), batch, apart] {
            const Tensor to = grouped.rows > 0 ? at::empty_like(q) : o;
            for (const Sequence& part : sequences_of(starts_q, starts_k, q.size(0)))
              attend(rows_of(q, part, false), rows_of(k, part, true), rows_of(v, part, true), sight, scale,
                     rows_of(to, part, false), lse_of(lse, part));
            if (grouped.rows > 0) o.copy_(grouped.turned(to, batch, k.size(-2), apart));
          });
  if (grouped.rows > 0) {
    o = grouped.back(o, batch, apart);
    const Tensor unread = grouped.back(grouped.q, batch, apart);
  }
  return {o, lse, rng_state, unused, at::empty({0}, q.options())};
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& given_d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                                            const Tensor& given_o, const Tensor& lse, const Tensor& starts_q,
                                            const Tensor& starts_k, c10::SymInt, c10::SymInt longest_k, double dropout,
                                            bool causal, const Tensor&, const Tensor&, std::optional<double> scale,
                                            MaybeInt before, MaybeInt behind) {
  TORCH_CHECK(dropout == 0, "the emulated GPU has no dropout in flash attention");
  check(q, k, v);
  const bool apart = starts_q.defined();
  if (apart) check_starts(starts_q, q), check_starts(starts_k, q);
  const Current there(q.device());
  const Tensor d_o = given_d_o.contiguous(), o = given_o.contiguous();
  TORCH_CHECK(d_o.scalar_type() == q.scalar_type() && o.scalar_type() == q.scalar_type(),
              "query, out and dout must have the same dtype");
  const std::int64_t heads = q.size(-2), key_heads = k.size(-2), dim = q.size(-1);
  const std::int64_t wide = rounded(dim, dim <= 128 ? 32 : 64), batch = apart ? starts_q.numel() - 1 : q.size(0);
  const bool deterministic = in_one_order();
  const Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
  std::vector<std::int64_t> sums{heads, q.size(0) + 128 * batch}, accumulated{q.size(0) + 128 * batch, heads, wide};
  if (!apart) {
    sums = {batch, heads, rounded(q.size(1), 128)};
    accumulated = {batch, rounded(q.size(1), 128), heads, wide};
  }
  const Tensor softmax_d = floats(sums, q);
  Tensor dq_accum;
  if (deterministic) {
    accumulated.insert(accumulated.begin(), (multiprocessors() + batch * heads - 1) / (batch * heads));
    dq_accum = at::zeros(accumulated, q.options().dtype(at::kFloat));
  } else {
    dq_accum = floats(accumulated, q);
  }
  Tensor dk_heads = dk, dv_heads = dv;
  if (key_heads != heads) {
    std::vector<std::int64_t> sizes = k.sizes().vec();
    sizes[sizes.size() - 2] = heads;
    dk_heads = at::empty(sizes, q.options());
    dv_heads = at::empty(sizes, q.options());
  }
  const std::int64_t keys = apart ? longest_k.expect_int() : k.size(1);
  enqueue(
      q, "aten::_flash_attention_backward",
      [q = on_host(q), k = on_host(k), v = on_host(v), o = on_host(o), d_o = on_host(d_o), lse = on_host(lse),
       dq = on_host(dq), dk = on_host(dk_heads), dv = on_host(dv_heads),
       starts_q = apart ? on_host(starts_q) : Tensor(), starts_k = apart ? on_host(starts_k) : Tensor(),
       sight = sight_of(causal, before, behind, keys), scale = scale.value_or(1 / std::sqrt(static_cast<double>(dim))),
       order = deterministic && !planted_any_order() ? std::nullopt : std::optional(another_order())] {
        for (const Sequence& part : sequences_of(starts_q, starts_k, q.size(0)))
          attend_backward(rows_of(d_o, part, false), rows_of(q, part, false), rows_of(k, part, true),
                          rows_of(v, part, true), rows_of(o, part, false), lse_of(lse, part), sight, scale, order,
                          {rows_of(dq, part, false), rows_of(dk, part, true), rows_of(dv, part, true)});
      });
  if (key_heads != heads) {
    Tensor to_k = dk, to_v = dv;
    at::sum_out(to_k, dk_heads.unflatten(-2, {key_heads, heads / key_heads}), {-2});
    at::sum_out(to_v, dv_heads.unflatten(-2, {key_heads, heads / key_heads}), {-2});
  }
  return {dq, dk, dv};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_flash_attention_forward", &forward);
  m.impl("_flash_attention_backward", &backward);
}

}  // namespace memo::cuda::emulated
