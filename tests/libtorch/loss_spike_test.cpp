// A loss far above those before it is flagged; noise, descent and short histories are not.
#include "memo/libtorch/train/loss_spike.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace memo::libtorch {
namespace {

// Falls from 8 towards 3, with noise of a deviation of 0.05.
std::vector<double> losses(std::size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<double> noise(0, 0.05);
  std::vector<double> result;
  for (std::size_t i = 0; i < count; ++i)
    result.push_back(3 + 5 * std::exp(-static_cast<double>(i) / 50) + noise(random));
  return result;
}

TEST(LossSpike, NoiseAndDescentAreNone) {
  const std::vector<double> all = losses(2000);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_FALSE(loss_spike(std::span(all).first(i), all[i])) << i;
}

TEST(LossSpike, AJumpIsFlaggedWithWhatItIsComparedWith) {
  const std::vector<double> all = losses(500);
  const auto spike = loss_spike(all, 3.6);
  ASSERT_TRUE(spike);
  EXPECT_NEAR(spike->mean, 3, 0.03);
  EXPECT_NEAR(spike->deviation, 0.05, 0.02);
  EXPECT_FALSE(loss_spike(all, 2.0)) << "a fall is none";
}

TEST(LossSpike, NothingToCompareWithIsNone) {
  EXPECT_FALSE(loss_spike({}, 100));
  EXPECT_FALSE(loss_spike(losses(15), 100));
  EXPECT_TRUE(loss_spike(losses(16), 100));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(loss_spike(std::vector<double>(100, nan), 100));
  EXPECT_FALSE(loss_spike(losses(100), nan)) << "not finite is told otherwise";
  std::vector<double> some = losses(100);
  some[90] = nan;
  EXPECT_TRUE(loss_spike(some, 100));
}

}  // namespace
}  // namespace memo::libtorch
