// Attention's rate against LibTorch's matrix product and its flash attention, in one run: bench_attention [S] [rounds].
// Rates count the products that a causal mask leaves: 4 (forward) and 10 (backward) times S^2 / 2 x head_dim x query
// heads. Times are medians of interleaved rounds.
#include "memo/libtorch/kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <fmt/format.h>

#include <cstdlib>
#include <vector>

#include "interleaved.h"

namespace memo::libtorch {
namespace {

void measure(const GroupHeads& h, at::ScalarType dtype, std::int64_t tokens, int rounds) {
  at::manual_seed(1);
  const at::Tensor qkv = at::randn({tokens, (h.queries + 2 * h.keys) * h.dim}).to(dtype);
  const at::Tensor d_o = at::randn({tokens, h.queries * h.dim}).to(dtype);
  const auto [o, lse] = causal_attention(qkv, h);

  const auto heads_of = [&](const at::Tensor& rows, std::int64_t first, std::int64_t heads) {
    return rows.narrow(1, first * h.dim, heads * h.dim).view({1, tokens, heads, h.dim}).transpose(1, 2);
  };
  const at::Tensor q = heads_of(qkv, 0, h.queries), k = heads_of(qkv, h.queries, h.keys),
                   v = heads_of(qkv, h.queries + h.keys, h.keys), g = heads_of(d_o, 0, h.queries);
  const auto [peer_o, peer_lse] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true);

  // As large as a call's working set lets a product be at its best; of bfloat16 too the products are in float32.
  constexpr std::int64_t side = 1024, products = 20;
  const at::Tensor a = at::randn({side, side}), b = at::randn({side, side});
  at::Tensor c = at::empty({side, side});

  const std::vector<double> times =
      interleaved(rounds, {[&] {
                             for (int i = 0; i < products; ++i) at::mm_out(c, a, b);
                           },
                           [&] { causal_attention(qkv, h); },
                           [&] { at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true); },
                           [&] { causal_attention_backward(d_o, qkv, o, lse, h); },
                           [&, &po = peer_o, &pl = peer_lse] {
                             at::_scaled_dot_product_flash_attention_for_cpu_backward(g, q, k, v, po, pl, 0.0, true);
                           }});
  const double pair = 0.5e-9 * static_cast<double>(tokens * tokens * h.dim * h.queries);
  const double product = 2e-9 * products * side * side * side / times[0];
  const double forward = 4 * pair / times[1], backward = 10 * pair / times[3];
  fmt::print("| {}/{} | {} | {} | {:.1f} | {:.1f} | {:.3f} | {:.2f} | {:.1f} | {:.3f} | {:.2f} |\n", h.queries, h.keys,
             h.dim, dtype == at::kFloat ? "float32" : "bfloat16", product, forward, forward / product,
             times[2] / times[1], backward, backward / product, times[4] / times[3]);
  std::fflush(stdout);
}

}  // namespace
}  // namespace memo::libtorch

int main(int count, char** arguments) {
  using namespace memo::libtorch;
  const std::int64_t tokens = count > 1 ? std::atoll(arguments[1]) : 8192;
  const int rounds = count > 2 ? std::atoi(arguments[2]) : 3;
  const at::AutoDispatchBelowADInplaceOrView plain;
  fmt::print("{} tokens, {} threads, GFLOP/s of all threads, medians of {}\n\n", tokens, at::get_num_threads(), rounds);
  fmt::print(
      "| heads | head_dim | dtype | mm_out | forward | / mm_out | / flash | backward | / mm_out | / flash |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const std::int64_t dim : {64, 128})
      for (const auto& [queries, keys] : {std::pair{2, 1}, {4, 4}})
        measure({queries, keys, dim}, dtype, tokens, rounds);
  return 0;
}
