// P = softmax(scale Q K^T) over the keys that a query sees; dV = P^T dO, dS = scale P (dO V^T - rowsum(dO o O)),
// dQ = dS K, dK = dS^T Q (FlashAttention-2, arXiv 2307.08691).
#include "tests/cuda/torch/attention_mathematics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace memo::cuda::emulated {
namespace {

constexpr std::int64_t tile_rows = 256, tile_keys = 128;
constexpr float infinity = std::numeric_limits<float>::infinity();

// [rows, heads, dim] of any type as [heads, rows, dim] float32, once for each of `repeat` query heads.
at::Tensor heads_of(const at::Tensor& rows, std::int64_t repeat = 1) {
  const at::Tensor heads = rows.transpose(0, 1).to(at::kFloat);
  return repeat == 1 ? heads : heads.repeat_interleave(repeat, 0);
}

// Adds the bias to scores [heads, count, keys] of queries from `first`, and hides the keys that these do not see.
void look(at::Tensor& scores, std::int64_t first, std::int64_t queries, const Sight& sight) {
  const std::int64_t count = scores.size(1), keys = scores.size(2);
  if (sight.bias.defined()) {
    const at::Tensor& bias = sight.bias;
    scores.add_(bias.size(1) == 1 ? bias : bias.narrow(1, first, count));
  }
  if (!sight.behind && !sight.before) return;
  const std::int64_t shift = sight.from_first ? 0 : keys - queries;
  const at::Tensor at_key = at::arange(first, first + count).unsqueeze(1) + shift, key = at::arange(keys);
  at::Tensor hidden = at::zeros({count, keys}, at::kBool);
  if (sight.behind) hidden.logical_or_(key > at_key + *sight.behind);
  if (sight.before) hidden.logical_or_(key < at_key - *sight.before);
  scores.masked_fill_(hidden, -infinity);
}

std::vector<std::int64_t> order_of(std::int64_t tiles, std::optional<std::uint64_t> order) {
  std::vector<std::int64_t> result(static_cast<std::size_t>(tiles));
  std::iota(result.begin(), result.end(), 0);
  if (order) std::shuffle(result.begin(), result.end(), std::mt19937_64(*order));
  return result;
}

}  // namespace

void attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Sight& sight, double scale,
            const at::Tensor& o, const at::Tensor& lse) {
  const std::int64_t repeat = q.size(1) / k.size(1), rows = q.size(0);
  const at::Tensor key = heads_of(k, repeat).transpose(1, 2), value = heads_of(v, repeat);
  for (std::int64_t first = 0; first < rows; first += tile_rows) {
    const std::int64_t n = std::min(tile_rows, rows - first);
    at::Tensor scores = at::matmul(heads_of(q.narrow(0, first, n)), key).mul_(scale);
    look(scores, first, rows, sight);
    at::Tensor sums = scores.logsumexp(-1);
    sums.masked_fill_(sums == -infinity, infinity);
    lse.narrow(1, first, n).copy_(sums);
    o.narrow(0, first, n).copy_(at::matmul(scores.sub_(sums.unsqueeze(-1)).exp_(), value).transpose(0, 1));
  }
}

void attend_backward(const at::Tensor& d_o, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& o, const at::Tensor& lse, const Sight& sight, double scale,
                     std::optional<std::uint64_t> order, const AttentionGradients& gradients) {
  const std::int64_t repeat = q.size(1) / k.size(1), rows = q.size(0), keys = k.size(0);
  const at::Tensor key = heads_of(k, repeat), value = heads_of(v, repeat);
  at::Tensor dk = at::zeros_like(key), dv = at::zeros_like(value);
  const std::vector<std::int64_t> tiles = order_of((keys + tile_keys - 1) / tile_keys, order);
  for (std::int64_t first = 0; first < rows; first += tile_rows) {
    const std::int64_t n = std::min(tile_rows, rows - first);
    const at::Tensor query = heads_of(q.narrow(0, first, n)), d = heads_of(d_o.narrow(0, first, n));
    at::Tensor p = at::matmul(query, key.transpose(1, 2)).mul_(scale);
    look(p, first, rows, sight);
    p.sub_(lse.narrow(1, first, n).unsqueeze(-1)).exp_();
    dv.add_(at::matmul(p.transpose(1, 2), d));
    const at::Tensor delta = (d * heads_of(o.narrow(0, first, n))).sum(-1, true);
    const at::Tensor ds = at::matmul(d, value.transpose(1, 2)).sub_(delta).mul_(p).mul_(scale);
    dk.add_(at::matmul(ds.transpose(1, 2), query));
    at::Tensor dq = at::zeros_like(query);
    for (const std::int64_t tile : tiles) {
      const std::int64_t at_key = tile * tile_keys, count = std::min(tile_keys, keys - at_key);
      dq.add_(at::matmul(ds.narrow(2, at_key, count), key.narrow(1, at_key, count)));
    }
    gradients.q.narrow(0, first, n).copy_(dq.transpose(0, 1));
  }
  gradients.k.copy_(dk.transpose(0, 1));
  gradients.v.copy_(dv.transpose(0, 1));
}

}  // namespace memo::cuda::emulated
