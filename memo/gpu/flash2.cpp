// FlashAttention 2 of LibTorch (flash_api.cpp), for documents and windows, and in one order of sums if asked.
#include <ATen/Context.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "memo/base/check.h"
#include "memo/gpu/attention.h"
#include "memo/libtorch/memory/allocator.h"

namespace memo::gpu {
namespace {

using namespace libtorch;  // the types of kernels' arguments

// q, k and v in flash attention's form [tokens, heads, dim], with each document's first row in q and in k, and the
// length of the longest. One document too is given so: what dense attention asks for depends on the number of heads and
// on the length in steps (set_params_splitkv of flash_api.cpp), so it cannot be planned from short sequences. Queries
// of one row are said to be of two, since flash attention would turn their heads into rows, in memory that others need
// not.
struct Operands {
  at::Tensor q, k, v;
  std::vector<int> document_q, document_k;
  std::int64_t longest_q = 2, longest_k = 0;
};

// The operands for query rows [first, last) and the keys of their documents. The causal mask is aligned to the last
// rows.
Operands operands(const at::Tensor& qkv, const GroupHeads& h, const Mask& mask, QueryRange range) {
  std::vector<std::int64_t> document_starts{0};
  for (const std::int64_t start : mask.document_starts)
    if (0 < start && start < range.last) document_starts.push_back(start);
  document_starts.push_back(range.last);
  Operands result;
  result.document_q = result.document_k = {0};
  std::int64_t first_key = 0;
  for (std::size_t d = 0; d + 1 < document_starts.size(); ++d) {
    const std::int64_t begin = std::max(document_starts[d], range.first), end = document_starts[d + 1];
    if (begin >= end) {
      first_key = end;
      continue;
    }
    result.document_q.push_back(static_cast<int>(end - range.first));
    result.document_k.push_back(static_cast<int>(end - first_key));
    result.longest_q = std::max(result.longest_q, end - begin);
    result.longest_k = std::max(result.longest_k, end - document_starts[d]);
  }
  const at::Tensor keys = qkv.narrow(0, first_key, range.last - first_key);
  result.q = heads_at(qkv.narrow(0, range.first, range.last - range.first), 0, h.queries, h.dim);
  result.k = heads_at(keys, h.queries, h.keys, h.dim);
  result.v = heads_at(keys, h.queries + h.keys, h.keys, h.dim);
  return result;
}

// The first rows of documents, on the device. Their number varies, so no plan has their memory.
at::Tensor starts(const std::vector<int>& documents, const at::Tensor& like) {
  const UnplannedScope other_sizes_each_time(at::kCUDA);
  return at::tensor(documents, at::kInt).to(like.device(), /*non_blocking=*/true);
}

std::optional<std::int64_t> before(const Mask& mask) {
  return mask.window > 0 ? std::optional(mask.window - 1) : std::nullopt;
}
std::optional<std::int64_t> behind(const Mask& mask) {
  return mask.window > 0 ? std::optional<std::int64_t>(0) : std::nullopt;
}

// While it lives, gradients are added in one order. LibTorch has this setting for the whole process only.
class OneOrder {
 public:
  explicit OneOrder(bool wanted) : wanted_(wanted && !at::globalContext().deterministicAlgorithms()) {
    if (!wanted_) return;
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(false);  // it would write all memory first
  }
  OneOrder(const OneOrder&) = delete;
  OneOrder& operator=(const OneOrder&) = delete;
  ~OneOrder() {
    if (!wanted_) return;
    at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/false);
    at::globalContext().setDeterministicFillUninitializedMemory(fills_);
  }

 private:
  const bool wanted_;
  const bool fills_ = at::globalContext().deterministicFillUninitializedMemory();
};

struct Backward {
  at::Tensor d_o, o, lse;  // [tokens, heads, dim] both, [heads, tokens]
  at::Tensor no_dropout;
  const Mask& mask;
};

// dq, dk and dv of documents [first, first + count).
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_of(const Operands& x, const Backward& given, std::size_t first,
                                                           std::size_t count) {
  std::vector<int> documents(x.document_q.begin() + static_cast<std::ptrdiff_t>(first),
                             x.document_q.begin() + static_cast<std::ptrdiff_t>(first + count + 1));
  const int begin = documents.front(), rows = documents.back() - begin;
  for (int& start : documents) start -= begin;
  const auto part = [&](const at::Tensor& all) { return all.narrow(0, begin, rows); };
  const at::Tensor there = starts(documents, x.q);
  const OneOrder one_order(!given.mask.any_order);
  return at::_flash_attention_backward(
      part(given.d_o), part(x.q), part(x.k), part(x.v), part(given.o), given.lse.narrow(1, begin, rows).contiguous(),
      there, there, x.longest_q, x.longest_k, /*dropout_p=*/0.0, /*is_causal=*/true, given.no_dropout, given.no_dropout,
      std::optional<double>(), before(given.mask), behind(given.mask));
}

// More documents than a plan has memory for: results at their planned addresses, everything else beside the plan.
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_in_parts(const Operands& x, const Backward& given,
                                                                 std::size_t documents, std::size_t at_once) {
  std::tuple result{at::empty_like(x.q), at::empty_like(x.k), at::empty_like(x.v)};
  const auto unused = [&] { return at::empty({16}, x.q.options().dtype(at::kFloat)); };
  std::vector<at::Tensor> requests{unused(), unused()};
  if (x.q.size(1) != x.k.size(1)) requests.insert(requests.end(), {unused(), unused()});
  const UnplannedScope beside(at::kCUDA);
  for (std::size_t first = 0; first < documents; first += at_once) {
    const std::size_t count = std::min(at_once, documents - first);
    const auto [dq, dk, dv] = backward_of(x, given, first, count);
    const std::int64_t begin = x.document_q[first];
    std::get<0>(result).narrow(0, begin, dq.size(0)).copy_(dq);
    std::get<1>(result).narrow(0, begin, dk.size(0)).copy_(dk);
    std::get<2>(result).narrow(0, begin, dv.size(0)).copy_(dv);
  }
  return result;
}

std::tuple<at::Tensor, at::Tensor> flash2_forward(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                                                  std::optional<QueryRange> given) {
  MEMO_CHECK(qkv.scalar_type() == at::kBFloat16, "attention on a GPU is of bfloat16");
  MEMO_CHECK(heads.softcap == 0, "attention on a GPU has no soft cap");
  const QueryRange range = given.value_or(QueryRange{0, qkv.size(0)});
  const Operands x = operands(qkv, heads, mask, range);
  const auto result = at::_flash_attention_forward(
      x.q, x.k, x.v, starts(x.document_q, qkv), starts(x.document_k, qkv), x.longest_q, x.longest_k, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, std::optional<double>(), before(mask), behind(mask));
  return finished(std::get<0>(result), std::get<1>(result), qkv, heads, mask, range);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flash2_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                               const at::Tensor& o, const at::Tensor& lse,
                                                               const GroupHeads& heads, const Mask& mask) {
  const std::int64_t tokens = qkv.size(0);
  const Operands x = operands(qkv, heads, mask, {0, tokens});
  const auto whole = [&](const at::Tensor& rows) { return heads_at(rows, 0, heads.queries, heads.dim); };
  const Backward all{whole(d_o), whole(o), lse.t().contiguous(), at::empty({2}, qkv.options().dtype(at::kUInt64)),
                     mask};
  const std::size_t documents = x.document_q.size() - 1, most = static_cast<std::size_t>(most_documents(tokens));
  return finished(documents > most ? backward_in_parts(x, all, documents, most) : backward_of(x, all, 0, documents),
                  d_o, qkv, heads, mask);
}

}  // namespace

const AttentionKernel flash2{"flash2",
                             {.most_dim = 256, .dim_multiple = 8, .window = true, .documents = true, .in_order = true},
                             flash2_forward,
                             flash2_backward};

}  // namespace memo::gpu
