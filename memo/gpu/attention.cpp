// The table of a GPU's kernels of attention, and the end of their calls.
#include "memo/gpu/attention.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <limits>

#include "memo/libtorch/kernels/attention_blind.h"

namespace memo::gpu {
namespace {

using namespace libtorch;  // the types of kernels' arguments

// The kernels have no hidden keys. Padding at the end of a document needs none, because only hidden tokens come after
// it; python/memo/masks.py refuses other padding. This function gives queries that see no key an o of 0, and an lse
// from which backward computes a P of 0.
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

}  // namespace

// FlashAttention 3 is not in LibTorch: it is a Python package, which replaces the operators of FlashAttention 2.
std::span<const AttentionKernel> attention() {
  static const std::array<AttentionKernel, 2> all{flash2, cudnn};
  return all;
}

at::Tensor heads_at(const at::Tensor& rows, std::int64_t first, std::int64_t count, std::int64_t dim) {
  return rows.narrow(1, first * dim, count * dim).unflatten(1, {count, dim});
}

std::tuple<at::Tensor, at::Tensor> finished(const at::Tensor& o, const at::Tensor& lse, const at::Tensor& qkv,
                                            const GroupHeads& heads, const Mask& mask, const QueryRange& range) {
  const std::int64_t rows = range.last - range.first;
  const at::Tensor o_rows = o.reshape({rows, heads.queries * heads.dim});
  at::Tensor lse_rows = at::empty({rows, heads.queries}, qkv.options().dtype(at::kFloat));
  lse_rows.copy_(lse.t());
  blind(mask, range, o_rows, lse_rows);
  if (mask.row > 0) attend_evenly(qkv, heads, mask, o_rows);
  return {o_rows, lse_rows};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> finished(const std::tuple<at::Tensor, at::Tensor, at::Tensor>& gradients,
                                                        const at::Tensor& d_o, const at::Tensor& qkv,
                                                        const GroupHeads& heads, const Mask& mask) {
  const auto rows = [&](const at::Tensor& gradient, std::int64_t count) {
    return gradient.reshape({qkv.size(0), count * heads.dim});
  };
  const auto& [dq, dk, dv] = gradients;
  const std::tuple result{rows(dq, heads.queries), rows(dk, heads.keys), rows(dv, heads.keys)};
  if (mask.row > 0)
    attend_evenly_backward(d_o, qkv, heads, mask, std::get<0>(result), std::get<1>(result), std::get<2>(result));
  return result;
}

}  // namespace memo::gpu
