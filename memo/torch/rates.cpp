#include "memo/torch/rates.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "memo/torch/attention.h"
#include "memo/torch/kernels.h"

namespace memo::edge {
namespace {

// The fastest of several runs, which others on the machine disturbed least.
double fastest_seconds(const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  constexpr double enough = 0.25;  // seconds
  constexpr int least = 3;
  double best = 1e9, spent = 0;
  work();
  for (int run = 0; run < least || spent < enough; ++run) {
    const auto start = Clock::now();
    work();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds), spent += seconds;
  }
  return best;
}

// Forward and backward seconds of a group of two query heads and one key head.
std::pair<double, double> attention_seconds(std::int64_t tokens, const GroupHeads& heads) {
  const at::Tensor qkv = at::randn({tokens, (heads.queries + 2 * heads.keys) * heads.dim}) * 0.1;
  const auto [o, lse] = causal_attention(qkv, heads);
  const at::Tensor d = at::randn(o.sizes()) * 0.1;
  const double forward = fastest_seconds([&] { causal_attention(qkv, heads); });
  return {forward, fastest_seconds([&, &o = o, &lse = lse] { causal_attention_backward(d, qkv, o, lse, heads); })};
}

}  // namespace

ComputeRates measure_rates() {
  ComputeRates rates;
  constexpr std::int64_t rows = 1024, columns = 1024, dim = 64, ffn = 1536;
  const at::Tensor x = at::randn({rows, columns}), weight = at::randn({columns, columns}) * 0.03;
  at::Tensor y = at::empty({rows, columns});
  rates.matmul = 2.0 * rows * columns * columns / fastest_seconds([&] { linear(x, weight, y); });

  const at::Tensor h = at::randn({rows, 2 * ffn});
  at::Tensor a = at::empty({rows, ffn});
  rates.memory =
      BytesPerSecond(4.0 * rows * 3 * ffn / fastest_seconds([&] { activate(h, model::Activation::silu, a); }));

  // seconds(n) = flops(n) (n + half) / (n rate): two lengths give both.
  const GroupHeads heads{2, 1, dim};
  constexpr std::int64_t small = 1024, large = 4096;
  const double forward_small = attention_seconds(small, heads).first;
  const auto [forward_large, backward_large] = attention_seconds(large, heads);
  const auto flops = [&](double tokens, double products) {
    return products * 2 * tokens * tokens / 2 * static_cast<double>(heads.queries * dim);
  };
  const double slow = forward_small / flops(small, 2), fast = forward_large / flops(large, 2);  // seconds a FLOP
  const double rate = (1.0 / small - 1.0 / large) / (fast / small - slow / large);
  rates.attention_half = std::max(1.0, small * (slow * rate - 1));
  rates.attention_forward = (1 + rates.attention_half / large) / fast;
  rates.attention_backward = (1 + rates.attention_half / large) * flops(large, 5) / backward_large;
  return rates;
}

}  // namespace memo::edge
