#include "memo/torch/attention.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>

#include "memo/base/check.h"

namespace memo::edge {
namespace {

// Columns [first, first + heads dim) as the operator wants them: [1, heads, S, dim].
at::Tensor heads_of(const at::Tensor& rows, std::int64_t first, std::int64_t heads, std::int64_t dim) {
  return rows.narrow(1, first * dim, heads * dim).view({1, rows.size(0), heads, dim}).transpose(1, 2);
}

// The way back: [1, heads, S, dim], in memory [S, heads, dim], as rows.
at::Tensor rows_of(const at::Tensor& tensor) {
  const at::Tensor rows = tensor.transpose(1, 2);
  MEMO_CHECK(rows.is_contiguous(), "flash attention's results lie row by row");
  return rows.view({rows.size(1), rows.size(2) * rows.size(3)});
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& h) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  auto [o, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
      heads_of(qkv, 0, h.queries, h.dim), heads_of(qkv, h.queries, h.keys, h.dim),
      heads_of(qkv, h.queries + h.keys, h.keys, h.dim), 0.0, /*is_causal=*/true);
  return {rows_of(o), rows_of(lse.unsqueeze(-1))};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& h) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  if (qkv.scalar_type() == at::kBFloat16) {
    // In bfloat16 the operator rounds dk and dv after every tile of queries, an error that grows with the sequence, and
    // allocates for each product.
    const auto [dq, dk, dv] =
        causal_attention_backward(d_o.to(at::kFloat), qkv.to(at::kFloat), o.to(at::kFloat), lse, h);
    return {dq.to(at::kBFloat16), dk.to(at::kBFloat16), dv.to(at::kBFloat16)};
  }
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      heads_of(d_o, 0, h.queries, h.dim), heads_of(qkv, 0, h.queries, h.dim), heads_of(qkv, h.queries, h.keys, h.dim),
      heads_of(qkv, h.queries + h.keys, h.keys, h.dim), heads_of(o, 0, h.queries, h.dim), lse.t().unsqueeze(0), 0.0,
      /*is_causal=*/true);
  return {rows_of(dq), rows_of(dk), rows_of(dv)};
}

}  // namespace memo::edge
