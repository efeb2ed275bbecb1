// The profile of a job: which calls it has, what they allocate, and that only its times are of the moment.
#include "memo/libtorch/measure/profiler.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "memo/libtorch/measure/block_time.h"
#include "memo/planner/planner.h"
#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using model::Stage;
using model::TensorRole;

class ProfilerTest : public testing::Test {
 protected:
  ProfilerTest() { job.memory.host_limit = Bytes(0); }
  plan::Profile profile() {
    auto made = profile_job(job, device);
    EXPECT_TRUE(made) << (made ? "" : made.error().message);
    return made ? *std::move(made) : plan::Profile();
  }
  const OneThread one_thread;
  job::Job job = tiny_job();
  MemoryDevice device;
};

// Segment, side, tokens.
using CallKind = std::tuple<std::string, bool, std::int64_t>;

std::multiset<CallKind> kinds_of(const plan::Profile& profile) {
  std::multiset<CallKind> kinds;
  for (const plan::Trace& trace : profile.traces)
    kinds.emplace(profile.flow.segments[trace.segment].name, trace.backward, trace.tokens.value());
  return kinds;
}

TEST_F(ProfilerTest, ThereIsOneTraceOfEveryCallThatAPlanMayMake) {
  // Blocks of 128, 128 and 64 tokens; core attention over all: it is recorded at the whole of so short a context, and
  // of no prefix.
  std::multiset<CallKind> wanted;
  for (const std::string segment : {"embedding", "attn_in", "attn_out", "mlp_in", "mlp_out"})
    for (const bool backward : {false, true})
      for (const std::int64_t tokens : {128, 64}) wanted.emplace(segment, backward, tokens);
  for (const std::int64_t tokens : {128, 64}) wanted.emplace("loss", false, tokens);
  for (const bool backward : {false, true}) wanted.emplace("attention", backward, 320);
  for (const std::string segment : {"update.before", "update.after", "optimizer", "wait"})
    wanted.emplace(segment, false, 320);
  const plan::Profile made = profile();
  EXPECT_EQ(kinds_of(made), wanted);
  for (const plan::Trace& trace : made.traces) {
    const Stage stage = made.flow.segments[trace.segment].stage;
    EXPECT_EQ(trace.seconds > Seconds(0), stage != Stage::wait);
  }
}

TEST_F(ProfilerTest, PlansOfEveryStrategyThatNeedsNoTierAreMadeOfItAndHold) {
  const plan::Profile made = profile();
  for (const std::string strategy : {"resident", "recompute", "memo"}) {
    const auto plan = planner::make_plan(made, {.strategy = strategy, .device_limit = {}});
    ASSERT_TRUE(plan) << strategy << ": " << plan.error().message;
    EXPECT_THAT(check::validate(*plan), testing::IsEmpty()) << strategy;
  }
}

TEST_F(ProfilerTest, WhatItSaysOfTheJobIsTheJobs) {
  for (const job::DType dtype : {job::DType::float32, job::DType::bfloat16}) {
    job.model.dtype = dtype;
    const plan::Profile made = profile();
    EXPECT_TRUE(plan::check_for_job(made, job, "the profile"));
    const std::vector<plan::Fixed> fixed = plan::fixed_memory(shape_of(job), dtype);
    ASSERT_EQ(made.fixed.size(), fixed.size());
    for (std::size_t i = 0; i < fixed.size(); ++i) EXPECT_EQ(made.fixed[i].bytes, fixed[i].bytes);
    EXPECT_EQ(made.device, device.name());
    EXPECT_EQ(made.model, dtype == job::DType::float32 ? "llama 3 x 32, float32" : "llama 3 x 32, bfloat16");
    EXPECT_TRUE(made.tiers.empty()) << "the job asks for none";
  }
}

TEST_F(ProfilerTest, TwoRunsDifferInTheirTimesOnly) {
  const plan::Profile a = profile(), b = profile();
  EXPECT_EQ(kinds_of(a), kinds_of(b));
  ASSERT_EQ(a.flow.classes.size(), b.flow.classes.size());
  for (const model::ClassIndex c : a.flow.classes.indices()) {
    EXPECT_EQ(a.flow.classes[c].name, b.flow.classes[c].name);
    EXPECT_EQ(a.flow.classes[c].row, b.flow.classes[c].row);
  }
  ASSERT_EQ(a.traces.size(), b.traces.size());
  for (const plan::TraceIndex t : a.traces.indices()) {
    ASSERT_EQ(a.traces[t].requests.size(), b.traces[t].requests.size());
    for (std::size_t r = 0; r < a.traces[t].requests.size(); ++r) {
      const plan::Request &p = a.traces[t].requests[r], &q = b.traces[t].requests[r];
      EXPECT_EQ(std::tuple(p.bytes, p.born, p.dies, p.cls, p.group),
                std::tuple(q.bytes, q.born, q.dies, q.cls, q.group))
          << t.value() << ", " << r;
    }
  }
}

TEST_F(ProfilerTest, WhatHoldsAClassHasItsBytes) {
  job.model.dtype = job::DType::bfloat16;
  const plan::Profile made = profile();
  int named = 0;
  for (const plan::Trace& trace : made.traces)
    for (const plan::Request& request : trace.requests) {
      if (!request.cls.exists()) continue;
      ++named;
      const model::TensorClass& cls = made.flow.classes[request.cls];
      EXPECT_EQ(request.bytes, cls.row * trace.tokens.value()) << cls.name << ", " << trace.tokens.value();
    }
  EXPECT_GT(named, 20);
  // The rows of the table, counted here: bfloat16, two groups of two query and one key head of 8.
  const auto row = [&](TensorRole role) { return made.flow.classes[made.flow.find_class(role)].row; };
  EXPECT_EQ(row(TensorRole::hidden), Bytes(32 * 2));
  EXPECT_EQ(row(TensorRole::qkv), Bytes((2 + 1 + 1) * 8 * 2));
  EXPECT_EQ(row(TensorRole::attention_output), Bytes(2 * 8 * 2));
  EXPECT_EQ(row(TensorRole::log_sum_exp), Bytes(2 * 4));
  EXPECT_EQ(row(TensorRole::mlp_inner), Bytes(2 * 48 * 2));
}

TEST_F(ProfilerTest, SizesAreTheDevicesUnlessTheJobSaysThem) {
  job.train.context = Tokens(4000);
  job.train.block = Tokens(0);
  job.train.head_groups = 0;
  plan::Profile made = profile();
  EXPECT_EQ(made.flow.block, Tokens(512)) << "of at least four blocks";
  EXPECT_EQ(made.flow.groups, 2) << "of 4 query and 2 key heads, for one thread";
  EXPECT_EQ(made.loss_tile, Tokens((8 << 20) / (shape_of(job).vocab * 4))) << "8 MiB of logits";
  EXPECT_TRUE(made.blocks_measured.empty()) << "there was no choice";
  job.train.context = Tokens(300);
  job.train.block = Tokens(128);
  job.train.head_groups = 1;
  job.train.loss_tile = Tokens(32);
  made = profile();
  EXPECT_EQ(made.flow.block, Tokens(128));
  EXPECT_EQ(made.flow.groups, 1);
  EXPECT_EQ(made.loss_tile, Tokens(32));
}

TEST_F(ProfilerTest, TokensAreTimedInBlocksOfEverySize) {
  const std::vector<Tokens> blocks{Tokens(16), Tokens(64)};
  const auto measured = time_blocks(shape_of(job), job.model.dtype, 2, blocks, device);
  ASSERT_TRUE(measured);
  ASSERT_EQ(measured->size(), 2);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ((*measured)[i].block, blocks[i]);
    EXPECT_GT((*measured)[i].per_token, Seconds(0));
  }
}

}  // namespace
}  // namespace memo::libtorch
