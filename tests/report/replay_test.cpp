// A program's requests on the caching allocator: what it reserves, and when it fails.
#include "memo/report/replay.h"

#include "memo/report/occupancy.h"
#include "subjects.h"

namespace memo::report {
namespace {

TEST(Replay, ReservesAtLeastWhatIsAllocatedAndTheFixedMemory) {
  for (const char* strategy : {"resident", "recompute", "offload"}) {
    const plan::Plan plan = planned(plan::synthetic_profile(), strategy);
    const Occupancy live = occupancy(plan);
    const Replay result = replay(plan, Bytes(0));
    EXPECT_FALSE(result.failed_at.exists());
    EXPECT_GE(result.reserved, result.allocated);
    EXPECT_GT(result.allocated, live.fixed);
    ASSERT_FALSE(result.growth.empty());
    EXPECT_EQ(result.growth.front().boundary, plan::Boundary(0));
    EXPECT_EQ(result.growth.back().reserved, result.reserved);  // without a capacity it never gives back
  }
}

TEST(Replay, FitsIntoWhatItReservedAndFailsFarBelow) {
  const plan::Plan plan = planned(plan::synthetic_profile(), "resident");
  const Replay free_running = replay(plan, Bytes(0));
  EXPECT_FALSE(replay(plan, free_running.reserved).failed_at.exists());
  EXPECT_TRUE(replay(plan, free_running.allocated / 2).failed_at.exists());
}

TEST(Replay, BlocksOfASequenceAreOneBuffer) {
  // q of 48 + 32 bytes a group would be two requests of 512 bytes each; it is one.
  const plan::Plan plan = plan::tiny_plan();
  const Replay result = replay(plan, Bytes(0));
  EXPECT_FALSE(result.failed_at.exists());
  EXPECT_EQ(result.allocated.value() % 512, 0);
  EXPECT_LE(result.reserved, Bytes(2 << 20));
}

}  // namespace
}  // namespace memo::report
