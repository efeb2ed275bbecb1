#include "memo/torch/rates.h"

#include <gtest/gtest.h>

namespace memo::edge {
namespace {

// Two measurements of one machine: of the same order, and every kernel below what no core does.
TEST(Rates, AreOfThisMachine) {
  model::Shape shape;
  shape.hidden = 256, shape.heads = 4, shape.kv_heads = 2, shape.head_dim = 64, shape.ffn = 512;
  const ComputeRates once = measure_rates(shape), again = measure_rates(shape);
  for (const auto& [a, b] : {std::pair(once.matmul, again.matmul), std::pair(once.memory.value(), again.memory.value()),
                             std::pair(once.attention_forward, again.attention_forward),
                             std::pair(once.attention_backward, again.attention_backward)}) {
    EXPECT_GT(a, 1e8);
    EXPECT_LT(a, 1e15);
    EXPECT_LT(std::max(a, b) / std::min(a, b), 20);
  }
  EXPECT_GE(once.attention_half, 1);
}

}  // namespace
}  // namespace memo::edge
