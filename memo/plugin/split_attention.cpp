#include "memo/plugin/split_attention.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <vector>

#include "memo/torch/allocator.h"
#include "memo/torch/attention.h"

namespace memo::plugin {
namespace {

// Buffers of an exchange are not planned: the transport lets go of them when it likes.
at::Tensor exchanged(const at::Tensor& out_going, LayerCalls& calls) {
  const edge::UnplannedScope heap(out_going.device().type());
  at::Tensor result = at::empty_like(out_going);
  calls.exchange(result, out_going);
  return result;
}

// Columns of parts, each [S, heads D], by the rank that gets them: -> [ranks S, columns / ranks], all tokens.
at::Tensor to_heads(const std::vector<at::Tensor>& parts, LayerCalls& calls) {
  const std::int64_t ranks = calls.ranks(), tokens = parts.front().size(0);
  std::int64_t columns = 0;
  for (const at::Tensor& part : parts) columns += part.size(1) / ranks;
  const edge::UnplannedScope heap(parts.front().device().type());
  const at::Tensor send = at::empty({ranks, tokens, columns}, parts.front().options());
  std::int64_t at_column = 0;
  for (const at::Tensor& part : parts) {
    const std::int64_t own = part.size(1) / ranks;
    send.narrow(2, at_column, own).copy_(part.unflatten(1, {ranks, own}).transpose(0, 1));
    at_column += own;
  }
  return exchanged(send, calls).flatten(0, 1);
}

// The other way, of one part: [ranks S, columns / ranks] -> [S, columns].
at::Tensor to_tokens(const at::Tensor& rows, LayerCalls& calls) {
  const std::int64_t ranks = calls.ranks(), tokens = rows.size(0) / ranks, own = rows.size(1);
  const auto heap_copy = [&] {
    const edge::UnplannedScope heap(rows.device().type());
    return rows.clone();
  };
  const at::Tensor got = exchanged(heap_copy().unflatten(0, {ranks, tokens}), calls);
  const at::Tensor result = at::empty({tokens, ranks * own}, rows.options());
  result.unflatten(1, {ranks, own}).copy_(got.transpose(0, 1));
  return result;
}

edge::GroupHeads own_heads(edge::GroupHeads heads, const LayerCalls& calls) {
  heads.queries /= calls.ranks();
  heads.keys /= calls.ranks();
  return heads;
}

at::Tensor qkv_by_heads(const at::Tensor& qkv, const edge::GroupHeads& heads, LayerCalls& calls) {
  const std::int64_t query = heads.queries * heads.dim, key = heads.keys * heads.dim;
  return to_heads({qkv.narrow(1, 0, query), qkv.narrow(1, query, key), qkv.narrow(1, query + key, key)}, calls);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> split_attention(const at::Tensor& qkv, const edge::GroupHeads& heads,
                                                   const edge::Mask& mask, LayerCalls& calls) {
  if (calls.ranks() == 1) return edge::causal_attention(qkv, heads, mask);
  const auto [o, lse] = edge::causal_attention(qkv_by_heads(qkv, heads, calls), own_heads(heads, calls), mask);
  return {to_tokens(o, calls), lse.view({qkv.size(0), heads.queries})};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> split_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                        const at::Tensor& o, const at::Tensor& lse,
                                                                        const edge::GroupHeads& heads,
                                                                        const edge::Mask& mask, LayerCalls& calls) {
  if (calls.ranks() == 1) return edge::causal_attention_backward(d_o, qkv, o, lse, heads, mask);
  const edge::GroupHeads own = own_heads(heads, calls);
  const auto [dq, dk, dv] =
      edge::causal_attention_backward(to_heads({d_o}, calls), qkv_by_heads(qkv, heads, calls), to_heads({o}, calls),
                                      lse.view({lse.size(0) * calls.ranks(), own.queries}), own, mask);
  return {to_tokens(dq, calls), to_tokens(dk, calls), to_tokens(dv, calls)};
}

}  // namespace memo::plugin
