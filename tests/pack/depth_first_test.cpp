// Depth-first search packs at the optimum and refutes what is below it.
#include "memo/pack/depth_first.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pack/instances.h"

namespace memo::pack {
namespace {

TEST(DepthFirst, PacksTheLeastPeakAndRefutesLess) {
  std::mt19937_64 random(3);
  for (int k = 0; k < affordable(150); ++k) {
    const Instance instance = small_instance(random, k);
    const std::int64_t least = brute_force_peak(instance);
    Skyline skyline(instance);
    DepthFirst search(skyline);
    const std::vector<float> priority(instance.size(), 0);
    std::int64_t nodes = 1'000'000;
    EXPECT_EQ(search.search(least - 1, priority, nodes, [] { return false; }), Verdict::refuted);
    ASSERT_EQ(search.search(least, priority, nodes, [] { return false; }), Verdict::packed);
    EXPECT_THAT(validate(instance, skyline.offsets(), least), testing::IsEmpty());
  }
}

TEST(DepthFirst, GivesUpAfterItsNodes) {
  const Instance instance{{0, 2, 1, 1, {}}, {0, 2, 2, 1, {}}, {1, 3, 3, 1, {}}};
  Skyline skyline(instance);
  DepthFirst search(skyline);
  std::int64_t nodes = 1;
  EXPECT_EQ(search.search(6, {0, 0, 0}, nodes, [] { return false; }), Verdict::cut_off);
  EXPECT_LE(nodes, 0);
}

}  // namespace
}  // namespace memo::pack
