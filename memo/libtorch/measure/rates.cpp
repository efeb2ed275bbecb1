// The kernels that are timed, and their rates.
#include "memo/libtorch/measure/rates.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>
#include <vector>

#include "memo/libtorch/kernels/attention.h"
#include "memo/libtorch/kernels/kernels.h"

namespace memo::libtorch {
namespace {

// The median of several runs.
double usual_seconds(Seconds each, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t least = 5;
  std::vector<double> runs;
  Seconds spent;
  work();
  while (runs.size() < least || spent < each) {
    const auto start = Clock::now();
    work();
    runs.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    spent += Seconds(runs.back());
  }
  const auto middle = runs.begin() + static_cast<std::ptrdiff_t>(runs.size() / 2);
  std::ranges::nth_element(runs, middle);
  return *middle;
}

constexpr std::int64_t most_rows = 1024;  // rows of a block

// The rate of products over a block of rows. Products of two layers take turns, so that no weight is still in a cache
// when it is read again. Wide models get fewer rows, to keep the run short.
double matmul_rate(const model::Shape& shape, Seconds each) {
  const bool gated = shape.activation == model::Activation::silu;
  const std::int64_t query = shape.heads * shape.head_dim, key = shape.kv_heads * shape.head_dim;
  struct Product {
    at::Tensor x, weight, y, dx, gradient;
  };
  std::vector<std::pair<std::int64_t, std::int64_t>> widths;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& width : {std::pair(shape.hidden, query + 2 * key), std::pair(query, shape.hidden),
                              std::pair(shape.hidden, shape.ffn * (gated ? 2 : 1)), std::pair(shape.ffn, shape.hidden)})
      widths.push_back(width);
  double weights = 0;
  for (const auto& [in, out] : widths) weights += static_cast<double>(in * out);
  constexpr double enough = 6e10, least_rows = 64;  // FLOPs of a run
  const auto rows =
      static_cast<std::int64_t>(std::clamp(enough / (6 * weights), least_rows, static_cast<double>(most_rows)));
  std::vector<Product> products;
  for (const auto& [in, out] : widths)
    products.push_back({at::randn({rows, in}), at::randn({out, in}) * 0.03, at::randn({rows, out}) * 0.1,
                        at::empty({rows, in}), at::zeros({out, in})});
  const double seconds = usual_seconds(each, [&] {
    for (Product& product : products) {
      linear(product.x, product.weight, product.y);
      linear_backward(product.y, product.weight, product.dx);
      add_weight_gradient(product.y, product.x, product.gradient);
    }
  });
  return 6 * weights * static_cast<double>(rows) / seconds;
}

// Forward and backward seconds of one head group.
std::pair<double, double> attention_seconds(std::int64_t tokens, const GroupHeads& heads, Seconds each) {
  const at::Tensor qkv = at::randn({tokens, (heads.queries + 2 * heads.keys) * heads.dim}) * 0.1;
  const auto [o, lse] = causal_attention(qkv, heads);
  const at::Tensor d = at::randn(o.sizes()) * 0.1;
  const double forward = usual_seconds(each, [&] { causal_attention(qkv, heads); });
  return {forward, usual_seconds(each, [&, &o = o, &lse = lse] { causal_attention_backward(d, qkv, o, lse, heads); })};
}

}  // namespace

ComputeRates measure_rates(const model::Shape& shape, Seconds each) {
  ComputeRates rates;
  rates.matmul = matmul_rate(shape, each);

  constexpr std::int64_t rows = most_rows, ffn = 1536;
  const at::Tensor h = at::randn({rows, 2 * ffn});
  at::Tensor a = at::empty({rows, ffn});
  rates.memory =
      BytesPerSecond(4.0 * rows * 3 * ffn / usual_seconds(each, [&] { activate(h, model::Activation::silu, a); }));

  // seconds(n) = flops(n) (n + half) / (n rate): two lengths give both.
  const GroupHeads heads{shape.heads / shape.kv_heads, 1, shape.head_dim};
  constexpr std::int64_t small = 1024, large = 4096;
  const double forward_small = attention_seconds(small, heads, each).first;
  const auto [forward_large, backward_large] = attention_seconds(large, heads, each);
  const auto flops = [&](double tokens, double products) {
    return products * 2 * tokens * tokens / 2 * static_cast<double>(heads.queries * heads.dim);
  };
  const double slow = forward_small / flops(small, 2), fast = forward_large / flops(large, 2);  // seconds a FLOP
  const double rate = (1.0 / small - 1.0 / large) / (fast / small - slow / large);
  rates.attention_half = std::max(1.0, small * (slow * rate - 1));
  rates.attention_forward = (1 + rates.attention_half / large) / fast;
  rates.attention_backward = (1 + rates.attention_half / large) * flops(large, 5) / backward_large;
  return rates;
}

}  // namespace memo::libtorch
