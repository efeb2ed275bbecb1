// Estimates: plans of modelled profiles are proved, sums add up, and setups that cannot be are refused.
#include "memo/estimate/estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memo/check/validate.h"
#include "memo/estimate/profile.h"
#include "memo/planner/planner.h"
#include "setups.h"

namespace memo::estimate {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The validator shares no code with the planner, and knows nothing of estimates.
TEST(ModelledProfile, ItsPlansAreProvedLikeMeasuredOnes) {
  for (const Strategy& strategy : strategies()) {
    Training setup = megatron("qwen3-4b", 1, 65536, Recompute::full);
    strategy.apply(setup);
    setup.block = Tokens(16384);
    const Modelled modelled = model_profile(setup);
    for (const char* name : {"resident", "recompute", "memo"}) {
      const auto plan = planner::make_plan(modelled.profile, {name, Bytes(0), 0});
      ASSERT_TRUE(plan) << strategy.name << ": " << plan.error().message;
      EXPECT_THAT(check::validate(*plan), IsEmpty()) << strategy.name << ", " << name;
    }
  }
}

TEST(Estimate, TheSplitAddsUpToTheStep) {
  for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::full}) {
    Training setup = megatron("gpt-7b", 8, 65536, recompute);
    setup.micro_batches = 4;
    const auto found = estimate(setup);
    ASSERT_TRUE(found);
    const StepSplit& s = found->split;
    const double sum = s.attention + s.matmul + s.memory + s.reruns + s.collectives + s.stalls + s.bubble + s.update;
    EXPECT_NEAR(sum / found->step.value(), 1, 1e-6);
  }
}

TEST(Estimate, RecomputationTradesTimeForMemory) {
  const auto kept = estimate(megatron("gpt-7b", 8, 65536, Recompute::none));
  const auto again = estimate(megatron("gpt-7b", 8, 65536, Recompute::full));
  ASSERT_TRUE(kept && again);
  EXPECT_LT(again->allocated, kept->allocated);
  EXPECT_GT(again->step, kept->step);
  EXPECT_EQ(kept->split.reruns, 0);
}

TEST(Estimate, APipelineHoldsMoreAndWaits) {
  Training setup = megatron("gpt-7b", 2, 16384, Recompute::none);
  setup.gpus = 8, setup.degrees.pipeline = 4, setup.micro_batches = 8;
  const auto found = estimate(setup);
  ASSERT_TRUE(found) << found.error().message;
  // (p - 1) / m of the time of its micro-batches.
  EXPECT_NEAR(found->split.bubble / (found->step.value() - found->split.bubble - found->split.update), 3.0 / 8, 1e-6);
}

TEST(Estimate, SaysWhatIsTooLarge) {
  const auto found = estimate(megatron("gpt-65b", 1, 65536, Recompute::full));
  ASSERT_TRUE(found);
  EXPECT_FALSE(found->fits);
  EXPECT_THAT(found->reason, HasSubstr("are over the device's"));
}

TEST(Estimate, DegreesThatContradictTheModelAreRefusedByTheirRule) {
  Training setup = megatron("gpt-7b", 3, 65536, Recompute::full);
  const auto found = estimate(setup);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(found.error().message, HasSubstr("tensor parallel 3 does not divide the model's 32 heads"));
}

}  // namespace
}  // namespace memo::estimate
