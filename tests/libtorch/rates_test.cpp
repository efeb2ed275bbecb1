// The rates that this machine measures of itself are usable numbers.
#include "memo/libtorch/measure/rates.h"

#include <gtest/gtest.h>

#include <cmath>

namespace memo::libtorch {
namespace {

// How fast is the machine's business: rates are numbers that an estimate can divide by.
TEST(Rates, ArePositiveForEveryKernel) {
  model::Shape shape;
  shape.hidden = 256, shape.heads = 4, shape.kv_heads = 2, shape.head_dim = 64, shape.ffn = 512;
  const ComputeRates rates = measure_rates(shape, Seconds(0));
  for (const double rate : {rates.matmul, rates.memory.value(), rates.attention_forward, rates.attention_backward}) {
    EXPECT_TRUE(std::isfinite(rate));
    EXPECT_GT(rate, 0);
  }
  EXPECT_GE(rates.attention_half, 1);
}

}  // namespace
}  // namespace memo::libtorch
