// Profiles on paper: they are of the job as a run would profile it, and their plans are proved like any other.
#include "memo/estimate/paper_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memo/check/validate.h"
#include "memo/planner/planner.h"
#include "setups.h"

namespace memo::estimate {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t gib = std::int64_t{1} << 30;

// Qwen3-8B in bfloat16.
job::Job job_of(std::int64_t context, std::int64_t host_gib = 512) {
  job::Job job;
  job.model = {.path = {},
               .family = "qwen3",
               .hidden = 4096,
               .layers = 36,
               .heads = 32,
               .kv_heads = 8,
               .head_dim = 128,
               .ffn = 12288,
               .vocab = 151936,
               .tied = false,
               .dtype = job::DType::bfloat16};
  job.train.context = Tokens(context);
  job.memory.host_limit = Bytes(host_gib * gib);
  return job;
}

Result<plan::Plan> plan_of(const job::Job& asked, const std::string& hardware) {
  const job::Job job = with_limit_of(asked, gpu(hardware));
  MEMO_TRY(const plan::Profile profile, paper_profile(job, gpu(hardware)));
  return planner::make_plan(profile, {"memo", job.memory.device_limit, job.memory.slots, job.train.batch});
}

TEST(PaperProfile, ItsPlanIsProvedAndFillsTheDevice) {
  const auto plan = plan_of(job_of(65536), "H100");
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(check::validate(*plan), IsEmpty());
  EXPECT_EQ(plan->profile.device, "H100, on paper");
  EXPECT_LE(plan->predicted.device_peak, gpu("H100").memory - gpu("H100").runtime);
}

TEST(PaperProfile, SizesAreThoseThatARunOnAGpuChooses) {
  const auto profile = paper_profile(job_of(262144), gpu("H100"));
  ASSERT_TRUE(profile) << profile.error().message;
  EXPECT_EQ(profile->flow.groups, 1);
  EXPECT_EQ(profile->flow.block, model::best_block(profile->blocks_measured));
  EXPECT_EQ(profile->loss_tile, profile->flow.block);
  EXPECT_EQ(profile->attention, "cudnn");
}

TEST(PaperProfile, WhatTheJobSaysIsKept) {
  job::Job job = job_of(65536);
  job.train.block = Tokens(2048), job.train.head_groups = 4, job.train.loss_tile = Tokens(512);
  job.train.attention = "flash2";
  const auto profile = paper_profile(job, gpu("H200"));
  ASSERT_TRUE(profile) << profile.error().message;
  EXPECT_EQ(profile->flow.block, Tokens(2048));
  EXPECT_EQ(profile->flow.groups, 4);
  EXPECT_EQ(profile->loss_tile, Tokens(512));
  EXPECT_EQ(profile->attention, "flash2");
  EXPECT_THAT(profile->blocks_measured, IsEmpty());
}

TEST(PaperProfile, UpdatesAreCallsWithATime) {
  const auto profile = paper_profile(job_of(65536), gpu("H100"));
  ASSERT_TRUE(profile);
  for (const model::SegmentRole role :
       {model::SegmentRole::update_before, model::SegmentRole::update_after, model::SegmentRole::optimizer}) {
    const plan::TraceIndex trace = profile->trace_of(profile->flow.find_segment(role), false, profile->flow.context);
    EXPECT_GT(profile->traces[trace].seconds, Seconds(0));
  }
}

// The estimate of Memo's strategy is the plan that Memo would make: here with a head group for each of 8 key heads.
TEST(PaperProfile, AnEstimateIsItsPlan) {
  const auto outcome = search(task_of("qwen3-8b", "H100", 1, 65536), {*find_strategy("memo")}, 1);
  ASSERT_TRUE(outcome && outcome->best.size() == 1);
  job::Job job = job_of(65536, 1800);
  const auto one_group = plan_of(job, "H100");
  job.train.head_groups = 8;
  const auto plan = plan_of(job, "H100");
  ASSERT_TRUE(one_group && plan);
  EXPECT_LT(plan->predicted.step, one_group->predicted.step);
  EXPECT_NEAR(outcome->best[0].estimate.step.value() / plan->predicted.step.value(), 1, 0.01);
}

// The placement problem does not see paged state on the link; the planner must not follow it into stalls.
TEST(PaperProfile, MoreHostMemoryIsNeverMuchSlower) {
  const auto little = plan_of(job_of(131072, 300), "H100"), much = plan_of(job_of(131072, 1800), "H100");
  ASSERT_TRUE(little && much);
  EXPECT_LT(much->predicted.step.value(), 1.01 * little->predicted.step.value());
}

TEST(PaperProfile, ADiskIsOfTheSizeThatTheJobSays) {
  job::Job job = job_of(65536, 0);
  job.memory.disk = "/nowhere";
  EXPECT_THAT(paper_profile(job, gpu("H100")).error().message, HasSubstr("memory.disk_limit is not set"));
  job.memory.disk_limit = Bytes(2000 * gib);
  const auto profile = paper_profile(job, gpu("H100"));
  ASSERT_TRUE(profile);
  ASSERT_EQ(profile->tiers.size(), 1U);
  EXPECT_EQ(profile->tiers[0].name, "disk");
  EXPECT_EQ(profile->tiers[0].write, gpu("H100").disk.write);
}

TEST(PaperProfile, AKernelWithoutRatesIsRefusedWithThoseThatHaveSome) {
  job::Job job = job_of(65536);
  job.train.attention = "flash9";
  EXPECT_THAT(paper_profile(job, gpu("A100")).error().message, HasSubstr("of A100 the rates of flash2"));
}

}  // namespace
}  // namespace memo::estimate
