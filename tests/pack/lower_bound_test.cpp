// Bounds on the peak, from live bytes, padding and fixed buffers.
#include <gtest/gtest.h>

#include <algorithm>

#include "memo/pack/pack.h"
#include "tests/pack/instances.h"

namespace memo::pack {
namespace {

TEST(LowerBound, IsTheMostLiveAtAnyOneTime) {
  std::mt19937_64 random(1);
  for (int k = 0; k < 200; ++k) {
    const Instance instance = random_instance(random, {20, 12, 9, {1}, k % 2 == 1});
    std::int64_t most = 0;
    for (std::int64_t time = 0; time <= 12; ++time) {
      std::int64_t live = 0;
      for (const Buffer& b : instance) live += alive(b, time) ? b.size : 0;
      most = std::max(most, live);
    }
    EXPECT_EQ(max_live_bytes(instance), most);
    EXPECT_EQ(lower_bound(instance), most);
  }
}

TEST(LowerBound, LifetimesAreHalfOpen) { EXPECT_EQ(max_live_bytes({{0, 5, 10, 1, {}}, {5, 9, 7, 1, {}}}), 10); }

TEST(LowerBound, CountsPaddingBelowTheTopmostBuffer) {
  EXPECT_EQ(lower_bound({{0, 1, 10, 16, {}}, {0, 1, 3, 16, {}}}), 16 + 3);
  EXPECT_EQ(lower_bound({{0, 1, 10, 16, {}}, {0, 1, 3, 24, {}}}), 8 + 10);  // all offsets are multiples of 8
}

TEST(LowerBound, ReachesTheHighestFixedEnd) { EXPECT_EQ(lower_bound({{0, 1, 10, 1, 100}, {0, 1, 3, 1, {}}}), 110); }

TEST(LowerBound, KnowsTheGrainOfPeaks) {
  EXPECT_EQ(granule({{0, 1, 12, 1, {}}, {0, 1, 18, 1, {}}}), 6);
  EXPECT_EQ(granule({{0, 1, 12, 4, {}}, {0, 1, 18, 1, {}}}), 2);  // an offset is rounded up to a multiple of 4
  EXPECT_EQ(granule({{0, 1, 12, 1, 3}, {0, 1, 18, 1, {}}}), 3);
}

}  // namespace
}  // namespace memo::pack
