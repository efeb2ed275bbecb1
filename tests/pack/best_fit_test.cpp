// Best fit along time gives valid packings in both directions, beside fixed buffers too.
#include "memo/pack/best_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pack/instances.h"

namespace memo::pack {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(BestFit, TakesTheSmallestGapThatHoldsTheBuffer) {
  // At time 1 the gaps are [0, 8), [10, 15) and the top.
  const Instance instance = {{0, 1, 8, 1, {}}, {0, 9, 2, 1, 8}, {0, 1, 5, 1, {}}, {0, 9, 3, 1, 15}, {1, 9, 4, 1, {}}};
  EXPECT_THAT(best_fit_forward(instance), ElementsAre(0, 8, 10, 15, 10));
}

TEST(BestFit, RunsBackwardToo) {
  const Instance instance = {{0, 2, 6, 1, {}}, {0, 3, 4, 1, {}}, {2, 3, 5, 1, {}}};
  EXPECT_THAT(best_fit_backward(instance), ElementsAre(9, 5, 0));
}

TEST(BestFit, IsValidInBothDirections) {
  std::mt19937_64 random(8);
  for (int k = 0; k < 300; ++k) {
    Instance instance = random_instance(random, {1 + random() % 80, 40, 30, {1, 4, 6}});
    if (k % 2 == 0) {  // some fixed, where another packing has them
      const std::vector<std::int64_t> offsets = best_fit_backward(instance);
      for (std::size_t i = 0; i < instance.size(); i += 4) instance[i].fixed = offsets[i];
    }
    EXPECT_THAT(validate(instance, best_fit_forward(instance)), IsEmpty());
    EXPECT_THAT(validate(instance, best_fit_backward(instance)), IsEmpty());
  }
}

}  // namespace
}  // namespace memo::pack
