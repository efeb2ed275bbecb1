// Plans of every strategy: valid, within their limits, none slower than its peers, and the smallest limit is named.
#include "memo/planner/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "../plan/synthetic_profile.h"
#include "memo/check/validate.h"
#include "memo/planner/streaming.h"
#include "valid_plans.h"

namespace memo::planner {
namespace {

using plan::synthetic_profile;
using plan::SyntheticOptions;

struct Case {
  const char* name;
  SyntheticOptions options;
};

class EveryStrategy : public ::testing::TestWithParam<Case> {};

TEST_P(EveryStrategy, PlansValidateWithAndWithoutALimit) {
  const plan::Profile profile = synthetic_profile(GetParam().options);
  for (const std::string& strategy : strategies())
    for (int slots : {0, 1, 2, 5}) {
      Request request{strategy, Bytes(0), slots};
      const plan::Plan free = plan_or_fail(profile, request);
      expect_valid(free);
      EXPECT_GE(free.predicted.device_peak, free.predicted.device_lower_bound);
      request.device_limit = free.predicted.device_peak;
      if (slots == 0) expect_valid(plan_or_fail(profile, request));
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EveryStrategy,
                         ::testing::Values(Case{"plain", {}}, Case{"groups", {.groups = 4}},
                                           Case{"ragged", {.context = 7000}}, Case{"one_block", {.context = 1024}},
                                           Case{"two_layers", {.layers = 2}}, Case{"one_layer", {.layers = 1}},
                                           Case{"slow_disk", {.bandwidth = 1e7}},
                                           Case{"small_blocks", {.hidden = 64, .context = 512, .block = 64}}),
                         [](const auto& info) { return info.param.name; });

// Modules that are not ours save what they compute on the way: running mlp_out again also writes the next layer's
// input.
TEST(Planner, ASegmentThatSavesMoreThanTheNextLayersInputIsComputedAgain) {
  plan::Profile profile = synthetic_profile();
  model::Dataflow& flow = profile.flow;
  model::Segment& segment = flow.segments[flow.find_segment(model::SegmentRole::mlp_out)];
  segment.forward.writes.push_back({flow.classes.end_index()});
  segment.backward.reads.push_back({flow.classes.end_index()});
  flow.classes.push_back({"mlp_out.saved", model::TensorRole::saved, Bytes(1536 * 4)});
  for (const std::string& strategy : strategies()) {
    const plan::Plan plan = plan_or_fail(profile, {strategy, Bytes(0), 0});
    expect_valid(plan);
    if (strategy != "recompute" && strategy != "offload") continue;
    EXPECT_TRUE(std::ranges::any_of(plan.program.calls, [&](const plan::Call& call) {
      return call.segment == flow.find_segment(model::SegmentRole::mlp_out) && call.phase == plan::Phase::rerun;
    }));
  }
}

TEST(Planner, MemoIsNeverSlowerThanTheOtherStrategiesAtTheSameLimit) {
  for (const double bandwidth : {1e7, 1e8, 1e9, 1e10}) {
    const plan::Profile profile = synthetic_profile({.bandwidth = bandwidth});
    for (const char* strategy : {"recompute", "offload", "memo-alpha", "resident"}) {
      const plan::Plan peer = plan_or_fail(profile, {strategy, Bytes(0), 0});
      const plan::Plan memo = plan_or_fail(profile, {"memo", peer.predicted.device_peak, 0});
      EXPECT_LE(memo.predicted.step.value(), peer.predicted.step.value() * 1.005) << strategy << " at " << bandwidth;
    }
  }
}

TEST(Planner, NamesTheSmallestLimitAndThatLimitWorks) {
  const plan::Profile profile = synthetic_profile();
  const auto refused = make_plan(profile, {"resident", Bytes(100 << 20), 0});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::infeasible);
  const std::string& text = refused.error().message;
  const Bytes least = refused.error().smallest_limit.value();
  EXPECT_NE(text.find(fmt::format("({} bytes)", least.value())), std::string::npos) << text;
  EXPECT_TRUE(make_plan(profile, {"resident", least, 0}).has_value()) << text;
  EXPECT_FALSE(make_plan(profile, {"resident", least - Bytes(4096), 0}).has_value());
}

// What grows with the context is one head group's operands of core attention, and nothing else.
TEST(Planner, TheLeastPeakGrowsByOneHeadGroupsOperandsPerToken) {
  for (const int groups : {1, 2, 4}) {
    std::vector<std::int64_t> least;
    for (const std::int64_t context : {16384, 32768, 65536, 131072}) {
      const plan::Profile profile = synthetic_profile({.groups = groups, .context = context});
      const auto refused = make_plan(profile, {"memo", Bytes(1 << 20), 0});
      ASSERT_FALSE(refused.has_value());
      least.push_back(refused.error().smallest_limit.value().value());
      const plan::Plan plan = plan_or_fail(profile, {"memo", Bytes(least.back()), 0});
      expect_valid(plan);
    }
    // q, o, do, dq: 8 heads; k, v, dk, dv: 4 heads; 64 floats each; the log-sum-exp: a float a head.
    const std::int64_t slope = (4 * 8 * 64 + 4 * 4 * 64 + 8) * 4 / groups;
    EXPECT_EQ(planner::core_bytes_per_token(synthetic_profile({.groups = groups}).flow).value(), slope);
    for (std::size_t i = 1; i < least.size(); ++i) {
      const std::int64_t tokens = 16384LL << (i - 1);
      EXPECT_LE(least[i] - least[i - 1], slope * tokens + (1 << 20))
          << groups << " groups, " << tokens << " tokens more";
    }
  }
}

// Computing the first fraction f of a causal sequence again costs f^2 of its attention, so early tokens go first.
TEST(Planner, AnyPlanIsThereWheneverTheFastestIs) {
  const plan::Profile profile = synthetic_profile({.layers = 3, .context = 4096, .capacity = Bytes(40 << 20)});
  const Bytes resident = plan_or_fail(profile, {"resident", Bytes(0), 0}).predicted.device_peak;
  for (int share = 2; share <= 20; ++share) {
    Request request{"memo", resident * share / 20, 0};
    const auto fastest = make_plan(profile, request);
    request.any_plan = true;
    const auto any = make_plan(profile, request);
    ASSERT_EQ(fastest.has_value(), any.has_value()) << share;
    if (!any) continue;
    expect_valid(*any);
    EXPECT_LE(any->predicted.device_peak, request.device_limit);
  }
}

TEST(Planner, RecomputesTheAttentionOfEarlyTokensWhenTheTierIsShort) {
  const SyntheticOptions options{.layers = 12, .groups = 2, .context = 32768};
  const Bytes limit(1000 << 20);
  const plan::Plan ample = plan_or_fail(synthetic_profile(options), {"memo", limit, 0});
  const std::int64_t used = ample.program.tier_bytes.front().value();
  double before = ample.predicted.step.value();
  int partly = 0;
  for (const double share : {0.9, 0.6, 0.4, 0.3, 0.25, 0.2, 0.17, 0.15}) {
    SyntheticOptions shorter = options;
    shorter.capacity = Bytes(static_cast<std::int64_t>(share * static_cast<double>(used)) / 4096 * 4096);
    const plan::Profile profile = synthetic_profile(shorter);
    const auto made = make_plan(profile, {"memo", limit, 0});
    if (!made && share < 0.25) break;  // not even the inputs of some layers have room
    ASSERT_TRUE(made.has_value()) << share << ": " << made.error().message;
    const plan::Plan& plan = *made;
    expect_valid(plan);
    EXPECT_LE(plan.program.tier_bytes.front(), shorter.capacity);
    EXPECT_GE(plan.predicted.step.value(), before * 0.995) << share;
    before = plan.predicted.step.value();
    const int blocks = profile.flow.blocks();
    const auto o = profile.flow.find_class(model::TensorRole::attention_output);
    for (const plan::ClassPlacement& placed : plan.placement)
      partly += placed.cls == o && placed.recomputed > 0 && placed.recomputed < blocks;
  }
  EXPECT_GT(partly, 0);
}

TEST(Planner, StoresTheInputOfEveryKthLayerWhereThoseOfAllAreTooMany) {
  const auto least = [](const plan::Profile& profile, const char* strategy) {
    return make_plan(profile, {strategy, Bytes(1 << 20), 0}).error().smallest_limit.value();
  };
  const plan::Profile profile = synthetic_profile({.layers = 16, .context = 16384, .disk = false});
  const Bytes memo = least(profile, "memo");
  EXPECT_LT(memo, least(profile, "recompute"));
  const plan::Plan plan = plan_or_fail(profile, {"memo", memo, 0});
  expect_valid(plan);
  const auto x = profile.flow.find_class(model::TensorRole::hidden);
  EXPECT_TRUE(std::ranges::any_of(plan.placement, [&](const auto& p) { return p.cls == x && p.recomputed > 0; }));
}

TEST(Planner, AStepOfSeveralSequencesRunsTheOptimizerOnce) {
  const plan::Profile profile = synthetic_profile();
  const plan::Plan one = plan_or_fail(profile, {"offload", Bytes(0), 2, 1});
  const plan::Plan three = plan_or_fail(profile, {"offload", Bytes(0), 2, 3});
  expect_valid(three);
  double optimizer = 0;  // of all parameters
  for (auto k = plan::update_begin(profile.flow, one.program); k < one.program.calls.end_index(); ++k)
    optimizer += profile.traces[one.program.calls[k].trace].seconds.value();
  EXPECT_NEAR(three.predicted.step.value(), 3 * one.predicted.step.value() - 2 * optimizer, 1e-9);
  EXPECT_NEAR(three.predicted.step_lower_bound.value(), 3 * one.predicted.step_lower_bound.value() - 2 * optimizer,
              1e-9);
  EXPECT_GT(one.predicted.step_lower_bound, Seconds(0));
  EXPECT_EQ(three.predicted.bytes_out, one.predicted.bytes_out * 3);
}

TEST(Planner, RefusesATierThatIsTooSmall) {
  const plan::Profile profile = synthetic_profile({.capacity = Bytes(1 << 20)});
  const auto refused = make_plan(profile, {"offload", Bytes(0), 0});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("disk tier"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace memo::planner
