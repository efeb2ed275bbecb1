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

#include "tests/cuda/torch/device.h"
#include "tests/cuda/torch/flash_mathematics.h"
#include "tests/cuda/torch/planted.h"
#include "tests/cuda/torch/split_kv.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;
using Maybe = std::optional<Tensor>;
using MaybeInt = std::optional<c10::SymInt>;

std::int64_t rounded(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

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

// Calls f(document, its rows and keys of operands) for documents of a varlen call, or for the batch of a dense one.
struct Part {
  std::int64_t index, first_q, rows, first_k, keys;
};
std::vector<Part> parts_of(const Tensor& starts_q, const Tensor& starts_k) {
  const int *q = starts_q.const_data_ptr<int>(), *k = starts_k.const_data_ptr<int>();
  std::vector<Part> parts;
  for (std::int64_t i = 0; i + 1 < starts_q.numel(); ++i)
    parts.push_back({i, q[i], q[i + 1] - q[i], k[i], k[i + 1] - k[i]});
  return parts;
}
std::vector<Part> parts_of_batch(std::int64_t batch) {
  std::vector<Part> parts;
  for (std::int64_t i = 0; i < batch; ++i) parts.push_back({i, 0, 0, 0, 0});
  return parts;
}

// A part's rows [rows, heads, dim] of an operand, and its log-sum-exp [heads, rows].
Tensor rows_of(const Tensor& all, const Part& part, bool keys) {
  if (all.dim() == 4) return all[part.index];
  return all.narrow(0, keys ? part.first_k : part.first_q, keys ? part.keys : part.rows);
}
Tensor lse_of(const Tensor& all, const Part& part) {
  return all.dim() == 3 ? all[part.index] : all.narrow(1, part.first_q, part.rows);
}

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
  if ((apart ? longest_q.expect_int() : q.size(1)) == 1) causal = false;
  const Current there(q.device());
  const Tensor o = at::empty_like(q);
  const Tensor lse = apart ? floats({heads, q.size(0)}, q) : floats({q.size(0), heads, q.size(1)}, q);
  Tensor split_lse, split_o;
  if (const int splits = apart ? 1 : splits_of(q.size(0) * heads, q.size(1), keys, dim); splits > 1) {
    split_lse = floats({splits, q.size(0), heads, q.size(1)}, q);
    split_o = floats({splits, q.size(0), heads, q.size(1), rounded(dim, dim <= 128 ? 32 : 64)}, q);
  }
  const auto numbers = q.options().dtype(at::kUInt64);
  const Tensor rng_state = at::empty({2}, numbers), unused = at::empty({}, numbers);
  enqueue(q, "aten::_flash_attention_forward",
          [q = on_host(q), k = on_host(k), v = on_host(v), o = on_host(o), lse = on_host(lse),
           starts_q = apart ? on_host(*starts_q) : Tensor(), starts_k = apart ? on_host(*starts_k) : Tensor(),
           sight = sight_of(causal, before, behind, keys),
           scale = scale.value_or(1 / std::sqrt(static_cast<double>(dim)))] {
            for (const Part& part : starts_q.defined() ? parts_of(starts_q, starts_k) : parts_of_batch(q.size(0)))
              attend(rows_of(q, part, false), rows_of(k, part, true), rows_of(v, part, true), sight, scale,
                     rows_of(o, part, false), lse_of(lse, part));
          });
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
  const at::Context& context = at::globalContext();
  const bool deterministic = context.deterministicAlgorithms() && !context.deterministicAlgorithmsWarnOnly();
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
        for (const Part& part : starts_q.defined() ? parts_of(starts_q, starts_k) : parts_of_batch(q.size(0)))
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
