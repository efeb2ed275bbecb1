// Plans of layers alone (memo/model/dataflow.h): a plug-in's, whose mathematics is not Memo's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "memo/check/validate.h"
#include "memo/model/dataflow.h"
#include "memo/planner/planner.h"
#include "valid_plans.h"

namespace memo::planner {
namespace {

// What a recorder adds: a tensor that each stage saves, and that it reads its operands again. Layers of a later kind
// save more, and take longer.
plan::Profile layers_profile(double bandwidth, const model::LayerShape& shape, int groups) {
  plan::Profile profile;
  profile.model = "synthetic layers";
  profile.device = "made up";
  profile.flow = model::layers_dataflow(shape, 4, 4, groups, Tokens(4096), Tokens(512));
  model::Dataflow& flow = profile.flow;
  for (model::Segment& segment : flow.segments) {
    if (!segment.has_backward() || segment.stage == model::Stage::core) continue;
    const bool before = segment.stage == model::Stage::before;
    const model::ClassIndex cls = flow.classes.end_index();
    flow.classes.push_back(
        {segment.name + ".saved0", model::TensorRole::saved, Bytes((before ? 1028 : 9000) * (2 + segment.kind))});
    segment.forward.writes.push_back({cls});
    segment.backward.reads.push_back({cls});
    segment.backward.reads.push_back(
        before ? model::Use{flow.find_class(model::TensorRole::hidden)}
               : model::Use{flow.find_class(model::TensorRole::attention_output), 0, false, true});
  }
  for (const model::SegmentIndex s : flow.segments.indices()) {
    const model::Stage stage = flow.segments[s].stage;
    for (const bool backward : {false, true}) {
      if (backward && !flow.segments[s].has_backward()) continue;
      const auto add = [&](Tokens tokens, double seconds) {
        profile.traces.push_back({s, backward, tokens, Seconds(backward ? 2 * seconds : seconds), {}});
        if (stage != model::Stage::wait) profile.traces.back().requests = {{Bytes(1 << 20), 0, 1}};
      };
      if (stage == model::Stage::wait) add(flow.context, 0);
      if (stage == model::Stage::core) {
        add(flow.context, 0.1);
        if (!backward)
          for (const int blocks : flow.prefixes()) add(flow.block * blocks, 0.1 * blocks * blocks / 64);
      }
      if (stage < model::Stage::core || stage == model::Stage::after)
        add(flow.block, 0.01 * (2 + flow.segments[s].kind));
    }
  }
  if (bandwidth > 0) {
    const BytesPerSecond rate(bandwidth);
    profile.tiers.push_back({"disk", Bytes(std::int64_t{1} << 40), rate, rate, rate, rate, 1.1, 4096});
  }
  return profile;
}

plan::Profile layers_profile(double bandwidth, int groups = 2, int layers = 3) {
  return layers_profile(bandwidth, {layers, 256, 8, 4, 32}, groups);
}

plan::Plan valid_plan(const plan::Profile& profile, const Request& request) {
  plan::Plan plan = plan_or_fail(profile, request);
  if (!testing::Test::HasFailure()) expect_valid(plan);
  return plan;
}

TEST(LayersAlone, PlansOfEveryStrategyValidate) {
  for (const double bandwidth : {0.0, 1e7, 1e9})
    for (const int groups : {1, 2})
      for (const std::string& strategy : strategies()) {
        if (bandwidth == 0 && (strategy == "offload" || strategy == "memo-alpha")) continue;
        const plan::Profile profile = layers_profile(bandwidth, groups);
        const plan::Plan free = valid_plan(profile, {strategy, Bytes(0), 0});
        valid_plan(profile, {strategy, free.predicted.device_peak, 0});
      }
}

TEST(LayersAlone, AnyLimitIsKeptOrTheLeastThatWorksIsNamed) {
  int refused = 0;
  for (const double bandwidth : {0.0, 1e9}) {
    const plan::Profile profile = layers_profile(bandwidth, 2, 6);
    const Bytes most = valid_plan(profile, {"resident", Bytes(0), 0}).predicted.device_peak;
    for (const int eighths : {7, 5, 3, 2, 1}) {
      const auto plan = make_plan(profile, {"memo", most / 8 * eighths, 0});
      if (!plan) {
        EXPECT_EQ(plan.error().kind, ErrorKind::infeasible);
        const Bytes least = plan.error().smallest_limit.value();
        EXPECT_GT(least, most / 8 * eighths);
        EXPECT_LE(valid_plan(profile, {"memo", least, 0}).predicted.device_peak, least);
        EXPECT_FALSE(make_plan(profile, {"memo", least - Bytes(1), 0}).has_value()) << "it is the least";
        ++refused;
        continue;
      }
      EXPECT_TRUE(check::validate(*plan).empty()) << check::validate(*plan).front();
      EXPECT_LE(plan->predicted.device_peak, most / 8 * eighths);
    }
    EXPECT_TRUE(make_plan(profile, {"memo", most / 8 * 5, 0}).has_value());
  }
  EXPECT_GT(refused, 0);
}

TEST(LayersAlone, WhatLayersAreGivenIsKeptOrLeavesButIsNotComputedAgain) {
  const plan::Profile profile = layers_profile(0, 2, 6);
  const Bytes recomputed = valid_plan(profile, {"recompute", Bytes(0), 0}).predicted.device_peak;
  const Bytes input = profile.flow.classes[profile.flow.find_class(model::TensorRole::hidden)].row * 4096;
  EXPECT_TRUE(make_plan(profile, {"memo", recomputed, 0}).has_value());
  EXPECT_FALSE(make_plan(profile, {"memo", recomputed - input * 2, 0}).has_value());

  plan::Plan plan = valid_plan(profile, {"recompute", Bytes(0), 0});
  const auto again = std::ranges::find(plan.program.calls, plan::Phase::rerun, &plan::Call::phase);
  again->segment = profile.flow.find_segment(model::SegmentRole::input);
  EXPECT_THAT(check::validate(plan), testing::Contains(testing::HasSubstr("cannot be run again")));
}

// What runs a layer goes through it once, from its input to its output.
TEST(LayersAlone, WhatIsAfterAttentionIsComputedAgainOnlyBehindWhatIsBeforeIt) {
  const plan::Profile profile = layers_profile(0, 2, 6);
  const plan::Plan plan = valid_plan(profile, {"recompute", Bytes(0), 0});
  const auto before = profile.flow.find_segment(model::SegmentRole::before),
             after = profile.flow.find_segment(model::SegmentRole::after);
  std::set<std::pair<model::LayerIndex, model::BlockIndex>> begun;
  int reruns = 0;
  for (const plan::Call& call : plan.program.calls) {
    EXPECT_FALSE(call.segment == profile.flow.find_segment(model::SegmentRole::input) &&
                 call.phase == plan::Phase::rerun);
    if (call.phase != plan::Phase::rerun) continue;
    if (call.segment == before) begun.emplace(call.layer, call.block);
    if (call.segment != after) continue;
    EXPECT_EQ(begun.erase({call.layer, call.block}), 1U);
    ++reruns;
  }
  EXPECT_EQ(reruns, 6 * profile.flow.blocks());
  EXPECT_TRUE(begun.empty());
}

TEST(LayersAlone, OfSeveralKindsEachRunsItsOwnSegmentsAndHoldsItsOwnTensors) {
  const IndexedVector<model::LayerIndex, int> kinds{0, 1, 0, 2, 1};
  for (const double bandwidth : {0.0, 1e9})
    for (const std::string& strategy : strategies()) {
      if (bandwidth == 0 && (strategy == "offload" || strategy == "memo-alpha")) continue;
      const plan::Profile profile = layers_profile(bandwidth, {5, 256, 8, 4, 32, kinds}, 2);
      const plan::Plan free = valid_plan(profile, {strategy, Bytes(0), 0});
      for (const plan::Call& call : free.program.calls) {
        const int kind = profile.flow.segments[call.segment].kind;
        EXPECT_TRUE(kind < 0 || kind == kinds[call.layer]);
      }
      for (const plan::Tensor& tensor : free.program.tensors) {
        const std::string& name = profile.flow.classes[tensor.cls].name;
        const std::size_t at = name.find("(kind ");
        if (at == std::string::npos) continue;
        EXPECT_EQ(name[at + 6] - '0', kinds[tensor.layer]) << name;
      }
      if (strategy == "resident") valid_plan(profile, {"memo", free.predicted.device_peak / 8 * 7, 0});
    }
}

TEST(LayersAlone, ACallOfALayerOfAnotherKindIsFound) {
  const plan::Profile profile = layers_profile(0, {2, 256, 8, 4, 32, {0, 1}}, 1);
  plan::Plan plan = valid_plan(profile, {"resident", Bytes(0), 0});
  const auto other = profile.flow.find_segment(model::SegmentRole::before, 1);
  const auto call = std::ranges::find(plan.program.calls, profile.flow.find_segment(model::SegmentRole::before, 0),
                                      &plan::Call::segment);
  call->segment = other;
  call->trace = profile.trace_of(other, false, Tokens(512));
  EXPECT_THAT(check::validate(plan), testing::Contains(testing::HasSubstr("its layer has no such call")));
}

// As of a layer without a norm before attention.
TEST(LayersAlone, AnInputThatNoBackwardReadsLeavesOnlyToBeComputedFromAgain) {
  plan::Profile profile = layers_profile(1e9, 2, 3);
  auto& reads = profile.flow.segments[profile.flow.find_segment(model::SegmentRole::before)].backward.reads;
  std::erase_if(reads,
                [&](const model::Use& use) { return use.cls == profile.flow.find_class(model::TensorRole::hidden); });
  for (const std::string& strategy : strategies()) {
    const plan::Plan free = valid_plan(profile, {strategy, Bytes(0), 0});
    for (const int eighths : {7, 6, 5})
      if (const auto plan = make_plan(profile, {"memo", free.predicted.device_peak / 8 * eighths, 0})) {
        EXPECT_TRUE(check::validate(*plan).empty()) << check::validate(*plan).front();
      }
  }
}

// Frozen layers below the first one that is trained.
TEST(LayersAlone, TheFirstLayersMayHaveNoBackwardSide) {
  for (const double bandwidth : {0.0, 1e9})
    for (const std::string& strategy : strategies()) {
      if (bandwidth == 0 && (strategy == "offload" || strategy == "memo-alpha")) continue;
      const plan::Profile profile = layers_profile(bandwidth, {5, 256, 8, 4, 32, {0, 0, 1, 1, 1}, {}, 2}, 2);
      const plan::Plan plan = valid_plan(profile, {strategy, Bytes(0), 0});
      for (const plan::Call& call : plan.program.calls)
        EXPECT_TRUE(call.phase == plan::Phase::forward || call.layer >= model::LayerIndex(2)) << call.layer.value();
      const plan::Profile all = layers_profile(bandwidth, {5, 256, 8, 4, 32, {0, 0, 1, 1, 1}}, 2);
      EXPECT_LT(plan.predicted.step, valid_plan(all, {strategy, Bytes(0), 0}).predicted.step);
    }
}

}  // namespace
}  // namespace memo::planner
