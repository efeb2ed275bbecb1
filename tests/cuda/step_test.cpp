// Whole planned steps on the GPU's streams: every tensor is where the plan says, when it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memo/check/validate.h"
#include "tests/cuda/pattern_step.h"
#include "tests/cuda/small_plans.h"

namespace memo::cuda {
namespace {

class CudaStep : public testing::Test {
 protected:
  void SetUp() override {
    if (!gpu.refusal.empty()) GTEST_SKIP() << gpu.refusal;
  }

  void expect_right(const plan::Plan& plan, exec::TierStore& tier) {
    ASSERT_THAT(check::validate(plan), testing::IsEmpty());
    const auto engine = gpu.engine({&tier});
    PatternStep step(gpu, plan, tier);
    for (int i = 0; i < 3; ++i) {
      const auto report = step.play(*engine);
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_EQ(step.wrong, 0) << "step " << i;
      EXPECT_EQ(report->copies_out.size() + report->copies_in.size(), plan.program.copies.size());
    }
    EXPECT_GT(step.checked, 100'000);
  }

  CudaBackend gpu;
};

TEST_F(CudaStep, WhatIsSwappedToRegisteredMemoryReturns) {
  for (const int slots : {1, 2, 3}) {
    const plan::Plan plan = swapped_plan(slots);
    expect_right(plan, *gpu.host_tier(plan.program.tier_bytes[0]));
  }
}

TEST_F(CudaStep, WhatIsSwappedThroughStagingReturns) {
  for (const int slots : {1, 2, 3}) {
    const plan::Plan plan = swapped_plan(slots);
    expect_right(plan, *sure(exec::host_tier(plan.program.tier_bytes[0])));
  }
}

TEST_F(CudaStep, PagedStateIsTheNewest) {
  const plan::Plan plan = paged_plan(2);
  expect_right(plan, *gpu.host_tier(plan.program.tier_bytes[0]));
  gpu.staging = {Bytes(4096), 2};
  expect_right(plan, *sure(exec::host_tier(plan.program.tier_bytes[0])));
}

}  // namespace
}  // namespace memo::cuda
