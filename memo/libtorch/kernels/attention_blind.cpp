// Means over rows of values and their derivatives, by LibTorch's operators, on any device.
#include "memo/libtorch/kernels/attention_blind.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "memo/libtorch/memory/allocator.h"

namespace memo::libtorch {
namespace {

constexpr std::size_t queries_at_once = 256;

// [rows, heads dim] -> [heads, rows, dim], float32.
at::Tensor by_head(const at::Tensor& rows, std::int64_t heads) {
  return rows.unflatten(1, {heads, -1}).transpose(0, 1).to(at::kFloat);
}
at::Tensor by_row(const at::Tensor& heads) { return heads.transpose(0, 1).flatten(1); }

// Calls f(queries, first, tokens) for queries of each row [first, first + tokens) that see no key, 256 at a time;
// `queries` is a tensor of their indices.
template <class F>
void for_blind_rows(const at::Tensor& qkv, const Mask& mask, const F& f) {
  const at::AutoDispatchBelowADInplaceOrView plain;
  const UnplannedScope other_sizes_each_time(qkv.device().type());
  const std::vector<std::int64_t> blind = Visibility(mask, qkv.size(0)).blind_queries();
  for (auto begin = blind.begin(); begin != blind.end();) {
    const std::int64_t first = *begin / mask.row * mask.row;
    const auto all = std::lower_bound(begin, blind.end(), first + mask.row);
    const auto end = begin + std::min<std::ptrdiff_t>(all - begin, queries_at_once);
    f(at::tensor(std::vector(begin, end), at::kLong).to(qkv.device()), first, std::min(mask.row, qkv.size(0) - first));
    begin = end;
  }
}

}  // namespace

void attend_evenly(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask, const at::Tensor& o) {
  const std::int64_t group = heads.queries / heads.keys;
  const at::Tensor values = qkv.narrow(1, (heads.queries + heads.keys) * heads.dim, heads.keys * heads.dim);
  for_blind_rows(qkv, mask, [&](const at::Tensor& queries, std::int64_t first, std::int64_t tokens) {
    const at::Tensor mean = values.narrow(0, first, tokens).mean(0, false, at::kFloat);
    const at::Tensor of_keys = mean.unflatten(0, {heads.keys, 1, -1});
    const at::Tensor row = of_keys.expand({-1, group, -1}).reshape({1, -1}).to(o.scalar_type());
    at::Tensor(o).index_copy_(0, queries, row.expand({queries.size(0), -1}));
  });
}

void attend_evenly_backward(const at::Tensor& d_o, const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                            const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv) {
  const auto [count, keys, dim, softcap] = heads;
  const std::int64_t group = count / keys;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  const auto columns = [&](std::int64_t first, std::int64_t width) { return qkv.narrow(1, first * dim, width * dim); };
  const at::Tensor all_k = columns(count, keys), all_v = columns(count + keys, keys);
  // Rows of the queries of a key head, one head after another: [keys, group queries, dim].
  const auto below = [&, keys = keys, count = count](const at::Tensor& rows) {
    return by_head(rows, count).unflatten(0, {keys, group}).flatten(1, 2);
  };
  for_blind_rows(qkv, mask, [&](const at::Tensor& queries, std::int64_t first, std::int64_t tokens) {
    const at::Tensor k = by_head(all_k.narrow(0, first, tokens), keys);
    const at::Tensor v = by_head(all_v.narrow(0, first, tokens), keys);
    const at::Tensor q = below(columns(0, count).index_select(0, queries)), d = below(d_o.index_select(0, queries));
    at::Tensor ds = at::matmul(d, v.transpose(1, 2)).div_(static_cast<double>(tokens));
    ds.sub_(ds.mean(2, /*keepdim=*/true));
    if (softcap > 0) {  // the cap's derivative is 1 - tanh^2
      const at::Tensor share = at::matmul(q, k.transpose(1, 2)).mul_(scale / softcap).tanh_();
      ds.mul_(share.square_().neg_().add_(1));
    }
    const at::Tensor of_queries = at::matmul(ds, k).mul_(scale).unflatten(1, {group, -1}).flatten(0, 1);
    at::Tensor(dq).index_copy_(0, queries, by_row(of_queries).to(dq.scalar_type()));
    dk.narrow(0, first, tokens).add_(by_row(at::matmul(ds.transpose(1, 2), q).mul_(scale)));
    dv.narrow(0, first, tokens).add_(by_row(d.sum(1, true)).div_(static_cast<double>(tokens)));
  });
}

}  // namespace memo::libtorch
