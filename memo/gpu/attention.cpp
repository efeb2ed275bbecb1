// Attention on a GPU, by LibTorch's flash attention.
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <limits>

#include "memo/base/check.h"
#include "memo/gpu/kernels.h"
#include "memo/libtorch/kernels/attention_blind.h"
#include "memo/libtorch/memory/allocator.h"

namespace memo::gpu {
namespace {

using namespace libtorch;  // the types of kernels' arguments

at::Tensor heads_at(const at::Tensor& rows, std::int64_t first, std::int64_t count, std::int64_t dim) {
  return rows.narrow(1, first * dim, count * dim).unflatten(1, {count, dim});
}

// q, k and v in flash attention's form: [1, tokens, heads, dim]; or, where documents are apart, without the first
// dimension, and with each document's first row in q and in k, and the length of the longest.
struct Operands {
  at::Tensor q, k, v, starts_q, starts_k;
  std::int64_t longest_q = 0, longest_k = 0;
  [[nodiscard]] at::Tensor whole(const at::Tensor& rows) const { return starts_q.defined() ? rows : rows.unsqueeze(0); }
};

// The operands for query rows [first, last) and the keys of their documents. The causal mask is aligned to the last
// rows.
Operands operands(const at::Tensor& qkv, const GroupHeads& h, const Mask& mask, QueryRange range) {
  std::vector<std::int64_t> document_starts{0};
  for (const std::int64_t start : mask.document_starts)
    if (0 < start && start < range.last) document_starts.push_back(start);
  document_starts.push_back(range.last);
  std::vector<int> q{0}, k{0};
  Operands result;
  std::int64_t first_key = 0;
  for (std::size_t d = 0; d + 1 < document_starts.size(); ++d) {
    const std::int64_t begin = std::max(document_starts[d], range.first), end = document_starts[d + 1];
    if (begin >= end) {
      first_key = end;
      continue;
    }
    q.push_back(static_cast<int>(end - range.first));
    k.push_back(static_cast<int>(end - first_key));
    result.longest_q = std::max(result.longest_q, end - begin);
    result.longest_k = std::max(result.longest_k, end - document_starts[d]);
  }
  if (q.size() > 2) {
    const UnplannedScope other_sizes_each_time(at::kCUDA);
    const auto there = [&](const std::vector<int>& values) {
      return at::tensor(values, at::dtype(at::kInt)).to(qkv.device(), /*non_blocking=*/true);
    };
    result.starts_q = there(q);
    result.starts_k = there(k);
  }
  const at::Tensor keys = qkv.narrow(0, first_key, range.last - first_key);
  result.q = result.whole(heads_at(qkv.narrow(0, range.first, range.last - range.first), 0, h.queries, h.dim));
  result.k = result.whole(heads_at(keys, h.queries, h.keys, h.dim));
  result.v = result.whole(heads_at(keys, h.queries + h.keys, h.keys, h.dim));
  return result;
}

// Flash attention has no hidden keys. Padding at the end of a document needs none, because only hidden tokens come
// after it; python/memo/masks.py refuses other padding. This function gives queries that see no key an o of 0, and an
// lse from which backward computes a P of 0.
void blind(const Mask& mask, const QueryRange& range, const at::Tensor& o, const at::Tensor& lse) {
  const std::vector<std::int64_t> queries = Visibility(mask, range.last).blind_queries();
  for (auto begin = queries.begin(); begin != queries.end();) {
    auto end = begin + 1;
    while (end != queries.end() && *end == *(end - 1) + 1) ++end;
    const std::int64_t first = std::max(*begin, range.first), last = *(end - 1) + 1;
    if (first < last) {
      o.narrow(0, first - range.first, last - first).zero_();
      lse.narrow(0, first - range.first, last - first).fill_(std::numeric_limits<float>::infinity());
    }
    begin = end;
  }
}

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

std::optional<std::int64_t> before(const Mask& mask) {
  return mask.window > 0 ? std::optional(mask.window - 1) : std::nullopt;
}
std::optional<std::int64_t> behind(const Mask& mask) {
  return mask.window > 0 ? std::optional<std::int64_t>(0) : std::nullopt;
}

}  // namespace

namespace on_gpu {

std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                                                    std::optional<QueryRange> given) {
  MEMO_CHECK(qkv.scalar_type() == at::kBFloat16, "attention on a GPU is of bfloat16");
  MEMO_CHECK(heads.softcap == 0, "attention on a GPU has no soft cap");
  const QueryRange range = given.value_or(QueryRange{0, qkv.size(0)});
  const Operands x = operands(qkv, heads, mask, range);
  const auto result = at::_flash_attention_forward(
      x.q, x.k, x.v, if_defined(x.starts_q), if_defined(x.starts_k), x.longest_q, x.longest_k, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, std::optional<double>(), before(mask), behind(mask));
  const std::int64_t rows = range.last - range.first;
  const at::Tensor o = std::get<0>(result).reshape({rows, heads.queries * heads.dim});
  at::Tensor lse = at::empty({rows, heads.queries}, qkv.options().dtype(at::kFloat));
  lse.copy_(std::get<1>(result).reshape({heads.queries, rows}).t());
  blind(mask, range, o, lse);
  if (mask.row > 0) attend_evenly(qkv, heads, mask, o);
  return {o, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads, const Mask& mask) {
  const std::int64_t tokens = qkv.size(0);
  const Operands x = operands(qkv, heads, mask, {0, tokens});
  const auto whole = [&](const at::Tensor& rows) { return x.whole(heads_at(rows, 0, heads.queries, heads.dim)); };
  const at::Tensor no_dropout = at::empty({2}, qkv.options().dtype(at::kUInt64));
  const auto [dq, dk, dv] =
      at::_flash_attention_backward(whole(d_o), x.q, x.k, x.v, whole(o), x.whole(lse.t().contiguous()), x.starts_q,
                                    x.starts_k, x.longest_q, x.longest_k, /*dropout_p=*/0.0, /*is_causal=*/true,
                                    no_dropout, no_dropout, std::optional<double>(), before(mask), behind(mask));
  const auto rows = [&](const at::Tensor& gradient, std::int64_t count) {
    return gradient.reshape({tokens, count * heads.dim});
  };
  const std::tuple result{rows(dq, heads.queries), rows(dk, heads.keys), rows(dv, heads.keys)};
  if (mask.row > 0)
    attend_evenly_backward(d_o, qkv, heads, mask, std::get<0>(result), std::get<1>(result), std::get<2>(result));
  return result;
}

}  // namespace on_gpu

void attention_on_gpu(libtorch::Kernels& table) {
  table.causal_attention = on_gpu::causal_attention;
  table.causal_attention_backward = on_gpu::causal_attention_backward;
}

}  // namespace memo::gpu
