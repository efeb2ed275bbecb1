// Bytes in use at every boundary, of a plan that is small enough to count by hand.
#include "memo/report/occupancy.h"

#include <algorithm>
#include <numeric>

#include "subjects.h"

namespace memo::report {
namespace {

TEST(Occupancy, OfTheTinyPlan) {
  const plan::Plan plan = plan::tiny_plan();
  const Occupancy live = occupancy(plan);
  ASSERT_EQ(live.device.size(), plan.program.calls.size());
  EXPECT_EQ(live.fixed, plan.profile.fixed[0].bytes + plan.profile.fixed[1].bytes);
  // Call 0 writes x of block 0, 2 tokens of 48 bytes.
  const plan::Call& first = plan.program.calls.front();
  EXPECT_EQ(live.device.front(), live.fixed + Bytes(96) + plan.program.transients[first.trace].bytes);
  // x of block 0 is on the tier from its copy at 1 until it is back at 12.
  ASSERT_EQ(live.tiers.size(), 1U);
  EXPECT_EQ(live.tiers[0][plan::Boundary(0)], Bytes(0));
  EXPECT_EQ(live.tiers[0][plan::Boundary(1)], Bytes(4096));
  EXPECT_EQ(live.tiers[0][plan::Boundary(11)], Bytes(4096));
  EXPECT_EQ(live.tiers[0][plan::Boundary(12)], Bytes(0));
}

TEST(Occupancy, ThePeakIsThePlannersLowerBound) {
  for (const char* strategy : {"resident", "recompute", "offload"}) {
    const plan::Plan plan = planned(plan::synthetic_profile(), strategy);
    const Occupancy live = occupancy(plan);
    const Bytes peak = live.device[live.peak];
    EXPECT_EQ(peak, plan.predicted.device_lower_bound) << strategy;
    EXPECT_LE(peak, plan.program.arena);
    const Bytes parts =
        std::accumulate(live.peak_by_class.begin(), live.peak_by_class.end(), live.fixed + live.peak_transients);
    EXPECT_EQ(parts, peak);
    for (std::size_t t = 0; t < live.tiers.size(); ++t) {
      EXPECT_LE(std::ranges::max(live.tiers[t]), plan.program.tier_bytes[t]);
      EXPECT_EQ(live.tiers[t].back(), Bytes(0));
    }
  }
}

}  // namespace
}  // namespace memo::report
