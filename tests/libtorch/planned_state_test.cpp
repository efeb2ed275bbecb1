// Where plans have the model's state: the arena's regions, the tier's, and the way between them.
#include "memo/libtorch/run/planned_state.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "memo/exec/cpu_copies.h"
#include "memo/exec/faulty_tier.h"
#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using model::LayerIndex;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A plan's arena and tiers, with nothing in them.
struct Opened {
  explicit Opened(const plan::Plan& given, const exec::Faults& faults = {.rate = 0})
      : plan(given), arena(*Arena::map(plan.program.arena)) {
    std::vector<exec::TierStore*> addresses;
    for (const Bytes bytes : plan.program.tier_bytes) {
      tiers.stores.push_back(std::make_unique<exec::FaultyTier>(*exec::host_tier(bytes), faults));
      addresses.push_back(tiers.stores.back().get());
    }
    tiers.engine = exec::cpu_copy_engine(addresses);
    planned = std::make_unique<PlannedState>(plan, arena.data(), tiers);
  }
  ModelState state(const job::Job& job) {
    return {shape_of(job), job.model.dtype, [&](const StateGroup& group) { return planned->regions(group); },
            planned.get()};
  }
  const plan::Plan& plan;
  Arena arena;
  exec::Tiers tiers;
  std::unique_ptr<PlannedState> planned;
};

class PlannedStateTest : public testing::Test {
 protected:
  static job::Job job_of(job::DType dtype) {
    job::Job job = tiny_job();
    job.model.dtype = dtype;
    return job;
  }
  static std::vector<StateGroup> layers_of(const job::Job& job) {
    std::vector<StateGroup> groups;
    for (const LayerIndex layer : indices<LayerIndex>(static_cast<int>(job.model.layers)))
      for (const model::Stage stage : {model::Stage::before, model::Stage::after}) groups.push_back({layer, stage});
    return groups;
  }
  const OneThread one_thread;
};

TEST_F(PlannedStateTest, InEveryPlanItIsWhatIsInPlainMemory) {
  for (const job::DType dtype : {job::DType::float32, job::DType::bfloat16}) {
    const job::Job job = job_of(dtype);
    const plan::Profile profile = tiny_profile(job);
    WholeModel plain(shape_of(job), dtype, 1);
    ASSERT_TRUE(plain.state.initialise(5));
    for (const std::string name : {"resident", "streamed", "paged"}) {
      const plan::Plan plan = tiny_plan(profile, name);
      Opened opened(plan);
      ModelState state = opened.state(job);
      ASSERT_TRUE(state.initialise(5)) << name;
      for (std::size_t i = 0; i < state.specs().size(); ++i) {
        ASSERT_TRUE(state.bring(i));
        EXPECT_TRUE(at::equal(state.masters()[i], plain.state.masters()[i])) << name << ", " << state.specs()[i].name;
        EXPECT_TRUE(at::equal(state.parameters()[i].value, plain.state.parameters()[i].value)) << name;
        EXPECT_TRUE(at::equal(state.first_moments()[i], plain.state.first_moments()[i])) << name;
      }
      EXPECT_EQ(state.gradient_digest().value(), plain.state.gradient_digest().value()) << name;
    }
  }
}

TEST_F(PlannedStateTest, WhatStaysOnTheDeviceHasRegionsOfItsOwnInTheArena) {
  const job::Job job = tiny_job();
  const plan::Plan plan = tiny_plan(tiny_profile(job), "resident");
  const Opened opened(plan);
  std::vector<std::pair<std::int64_t, std::int64_t>> extents;  // [begin, end) in the arena
  std::vector<StateGroup> groups = layers_of(job);
  groups.push_back({});
  for (const StateGroup& group : groups) {
    const model::StateBytes bytes = model::state_bytes(shape_of(job), 4, group.layer, group.stage);
    const StateRegions regions = opened.planned->regions(group);
    for (const auto& [region, size] :
         {std::pair(regions[0], bytes.weights), {regions[1], bytes.gradients}, {regions[2], bytes.optimizer}})
      extents.emplace_back(region - opened.arena.data(), region - opened.arena.data() + size.value());
  }
  std::ranges::sort(extents);
  for (std::size_t i = 0; i + 1 < extents.size(); ++i) EXPECT_LE(extents[i].second, extents[i + 1].first);
  EXPECT_GE(extents.front().first, 0);
  EXPECT_LE(extents.back().second, plan.program.arena.value());
}

TEST_F(PlannedStateTest, WhatIsNotPagedIsNotMoved) {
  const job::Job job = tiny_job();
  const plan::Plan plan = tiny_plan(tiny_profile(job), "streamed");
  const Opened opened(plan, {.rate = 1, .kinds = {exec::Fault::io_error}});
  for (const StateGroup& group : layers_of(job)) {
    EXPECT_TRUE(opened.planned->store(group));
    EXPECT_TRUE(opened.planned->fetch(group));
  }
}

TEST_F(PlannedStateTest, EveryGroupHasItsOwnPlaceOnTheTierHoweverTheyShareTheArena) {
  const job::Job job = tiny_job();
  const plan::Plan plan = tiny_plan(tiny_profile(job), "paged");
  const Opened opened(plan);
  const auto fill = [&](const StateGroup& group, int value) {
    const model::StateBytes bytes = model::state_bytes(shape_of(job), 4, group.layer, group.stage);
    const StateRegions regions = opened.planned->regions(group);
    const std::array<Bytes, 3> sizes{bytes.weights, bytes.gradients, bytes.optimizer};
    for (std::size_t kind = 0; kind < 3; ++kind)
      std::memset(regions[kind], value + static_cast<int>(kind), static_cast<std::size_t>(sizes[kind].value()));
  };
  const auto holds = [&](const StateGroup& group, std::size_t kind, int value) {
    const model::StateBytes bytes = model::state_bytes(shape_of(job), 4, group.layer, group.stage);
    const std::array<Bytes, 3> sizes{bytes.weights, bytes.gradients, bytes.optimizer};
    const std::byte* region = opened.planned->regions(group)[kind];
    return std::all_of(region, region + sizes[kind].value(),
                       [&](std::byte byte) { return byte == static_cast<std::byte>(value); });
  };
  const std::vector<StateGroup> groups = layers_of(job);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    fill(groups[g], static_cast<int>(10 * (g + 1)));
    ASSERT_TRUE(opened.planned->store(groups[g]));
  }
  for (const StateGroup& group : groups) fill(group, 0xEE);
  for (std::size_t g = groups.size(); g-- > 0;) {
    ASSERT_TRUE(opened.planned->fetch(groups[g]));
    for (std::size_t kind = 0; kind < 3; ++kind)
      EXPECT_TRUE(holds(groups[g], kind, static_cast<int>(10 * (g + 1) + kind))) << g << ", " << kind;
  }

  exec::ArenaBytes bytes;
  ASSERT_TRUE(opened.planned->rewrite_gradients(bytes));
  for (const StateGroup& group : groups) fill(group, 0xEE);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    ASSERT_TRUE(opened.planned->fetch(groups[g]));
    EXPECT_TRUE(holds(groups[g], 0, static_cast<int>(10 * (g + 1)))) << "weights stay";
    EXPECT_TRUE(holds(groups[g], 1, 0)) << "gradients are zeros";
    EXPECT_TRUE(holds(groups[g], 2, static_cast<int>(10 * (g + 1) + 2))) << "moments stay";
  }
}

TEST_F(PlannedStateTest, AFailureOfTheTierIsOneLineThatNamesTheTensor) {
  const job::Job job = tiny_job();
  const plan::Plan plan = tiny_plan(tiny_profile(job), "paged");
  const Opened opened(plan, {.rate = 1, .kinds = {exec::Fault::io_error}});
  for (const bool stores : {true, false}) {
    const StateGroup group{LayerIndex(1), model::Stage::after};
    const Status moved = stores ? opened.planned->store(group) : opened.planned->fetch(group);
    ASSERT_FALSE(moved);
    EXPECT_EQ(moved.error().kind, ErrorKind::run_time);
    EXPECT_THAT(moved.error().message, AllOf(HasSubstr(".after"), HasSubstr("layer 1"), HasSubstr("Input/output error"),
                                             Not(HasSubstr("\n"))));
  }
}

}  // namespace
}  // namespace memo::libtorch
