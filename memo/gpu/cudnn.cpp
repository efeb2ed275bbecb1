// cuDNN's attention, through LibTorch (native/cudnn/MHA.cpp), of one document: q, k and v are read where they lie. For
// several documents MHA.cpp gives cuDNN offsets in 32 bits, takes rows without gaps, and has its forward write the
// statistics of a document where backward does not read them; so documents are left to flash2.
#include <ATen/ops/_cudnn_attention_backward.h>
#include <ATen/ops/_cudnn_attention_forward.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "memo/base/check.h"
#include "memo/gpu/attention.h"

namespace memo::gpu {
namespace {

using namespace libtorch;  // the types of kernels' arguments

// Rows of heads in cuDNN's order of dimensions: [1, count, tokens, dim].
at::Tensor in_batch(const at::Tensor& rows, std::int64_t first, std::int64_t count, std::int64_t dim) {
  return heads_at(rows, first, count, dim).transpose(0, 1).unsqueeze(0);
}

struct QueriesKeysValues {
  QueriesKeysValues(const at::Tensor& qkv, const GroupHeads& h)
      : q(in_batch(qkv, 0, h.queries, h.dim)),
        k(in_batch(qkv, h.queries, h.keys, h.dim)),
        v(in_batch(qkv, h.queries + h.keys, h.keys, h.dim)) {}
  at::Tensor q, k, v;
};

void check_one_document(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask, const QueryRange& range) {
  MEMO_CHECK(qkv.scalar_type() == at::kBFloat16, "attention on a GPU is of bfloat16");
  MEMO_CHECK(heads.softcap == 0, "attention on a GPU has no soft cap");
  MEMO_CHECK(mask.window == 0 || mask.window >= range.last, "cuDNN's attention has no window");
  MEMO_CHECK(
      std::ranges::all_of(mask.document_starts, [&](std::int64_t start) { return start <= 0 || start >= range.last; }),
      "cuDNN's attention is of one document");
  MEMO_CHECK(range.first == 0, "cuDNN's causal mask begins at the first query");
}

at::Tensor number(const at::Tensor& like) { return at::empty({}, like.options().dtype(at::kLong)); }

std::tuple<at::Tensor, at::Tensor> cudnn_forward(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                                                 std::optional<QueryRange> given) {
  const QueryRange range = given.value_or(QueryRange{0, qkv.size(0)});
  check_one_document(qkv, heads, mask, range);
  const QueriesKeysValues x(qkv.narrow(0, 0, range.last), heads);
  const auto result = at::_cudnn_attention_forward(x.q, x.k, x.v, /*attn_bias=*/{}, /*cum_seq_q=*/{}, /*cum_seq_k=*/{},
                                                   range.last, range.last, /*compute_log_sumexp=*/true,
                                                   /*dropout_p=*/0.0, /*is_causal=*/true);
  return finished(std::get<0>(result)[0].transpose(0, 1), std::get<1>(result).view({heads.queries, range.last}), qkv,
                  heads, mask, range);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> cudnn_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                              const at::Tensor& o, const at::Tensor& lse,
                                                              const GroupHeads& heads, const Mask& mask) {
  const std::int64_t tokens = qkv.size(0);
  check_one_document(qkv, heads, mask, {0, tokens});
  const QueriesKeysValues x(qkv, heads);
  const auto whole = [&](const at::Tensor& rows) { return in_batch(rows, 0, heads.queries, heads.dim); };
  const auto [dq, dk, dv] = at::_cudnn_attention_backward(
      whole(d_o), x.q, x.k, x.v, whole(o), lse.t().contiguous().view({1, heads.queries, tokens, 1}), number(qkv),
      number(qkv), /*attn_bias=*/{}, /*cum_seq_q=*/{}, /*cum_seq_k=*/{}, tokens, tokens, /*dropout_p=*/0.0,
      /*is_causal=*/true);
  const auto by_row = [](const at::Tensor& gradient) { return gradient[0].transpose(0, 1); };
  return finished(std::tuple{by_row(dq), by_row(dk), by_row(dv)}, d_o, qkv, heads, mask);
}

}  // namespace

// On compute capability 9.0 cuDNN has wider heads too, which are rare.
const AttentionKernel cudnn{"cudnn", {.most_dim = 128, .dim_multiple = 8}, cudnn_forward, cudnn_backward};

}  // namespace memo::gpu
