// Parameters whose home is a tier: when they come and go, and what the validator says when that goes wrong.
#include "memo/planner/persistent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "../plan/synthetic_profile.h"
#include "built_plan.h"
#include "memo/check/validate.h"
#include "memo/planner/build.h"
#include "memo/planner/streaming.h"

namespace memo::planner {
namespace {

using model::TensorRole;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Plan paged_plan(const Profile& profile, Paged most, int layers, int slots, bool early = false) {
  const Placement placement = paged(streamed(place_swapped(profile, 0), profile, 0), profile, 0, most, layers);
  return built_plan(profile, placement.classes, {slots, false, early});
}

std::map<std::string, std::pair<int, int>> copies_of_classes(const Plan& plan) {  // in, out
  std::map<std::string, std::pair<int, int>> copies;
  for (const Copy& copy : plan.program.copies) {
    auto& [in, out] = copies[class_of(plan, copy).name];
    ++(copy.direction == Direction::in ? in : out);
  }
  return copies;
}

TEST(Persistent, PagedPlansHoldAtEveryNumberOfSlotsAndLayers) {
  for (const int layers : {1, 2, 5})
    for (const std::int64_t context : {1024, 4096})
      for (const int slots : {1, 2, 3})
        for (const Paged most : {Paged::optimizer, Paged::gradients, Paged::weights})
          for (const int paged_layers : {1, layers}) {
            const Profile profile = synthetic_profile({.layers = layers, .context = context});
            for (const bool early : {false, true})
              EXPECT_THAT(check::validate(paged_plan(profile, most, paged_layers, slots, early)), IsEmpty())
                  << layers << " layers, " << context << " tokens, " << slots << " slots, " << paged_layers
                  << " paged, early updates " << early;
          }
}

TEST(Persistent, WhatIsPagedNeedsAFewLayersOnTheDeviceWhateverTheirNumber) {
  const auto peak = [](std::int64_t layers, Paged most) {
    const Profile profile = synthetic_profile({.layers = layers, .context = 4096});
    return paged_plan(profile, most, static_cast<int>(layers), 2).program.arena;
  };
  const auto layer = [](int kinds) {  // bytes of a layer's weights, gradients, optimizer state
    const Profile profile = synthetic_profile({.layers = 1});
    Bytes sum;
    for (const model::TensorClass& cls : profile.flow.classes)
      for (int kind = 0; kind < kinds; ++kind)
        if (cls.role == std::vector{TensorRole::weights, TensorRole::gradients, TensorRole::optimizer}[at(kind)])
          sum += cls.layer_bytes;
    return sum;
  };
  const auto expect_growth = [&](Paged most, Bytes four_layers) {
    const Bytes growth = peak(12, most) - peak(8, most);
    EXPECT_GE(growth, four_layers);
    EXPECT_LE(growth, four_layers + Bytes(100 << 10)) << "the statistics of norms, too small to copy, and pages";
  };
  expect_growth(Paged::weights, Bytes(0));
  expect_growth(Paged::gradients, layer(1) * 4);
  expect_growth(Paged::optimizer, layer(2) * 4);
}

TEST(Persistent, StateCrossesTheTierOnceAStepAndWeightsThreeTimes) {
  const Plan plan = paged_plan(synthetic_profile({.layers = 6, .context = 4096}), Paged::weights, 6, 2);
  auto copies = copies_of_classes(plan);
  EXPECT_EQ(copies["optimizer.after"], std::pair(6, 6));
  // Forward, backward, update; but the last layer's are still there in the turn, whose forward and backward are one.
  EXPECT_EQ(copies["weights.after"], std::pair(17, 6));
  // The first layer's are still there after backward; its gradients leave all the same, as for another sequence.
  EXPECT_EQ(copies["weights.before"], std::pair(17, 6));
  EXPECT_EQ(copies["gradients.before"], std::pair(12, 12));
}

// Without clipping a layer is updated while its weights and gradients are still there from backward.
TEST(Persistent, EarlyUpdatesFetchNothingTwice) {
  const Plan plan = paged_plan(synthetic_profile({.layers = 6, .context = 4096}), Paged::weights, 6, 2, true);
  auto copies = copies_of_classes(plan);
  EXPECT_EQ(copies["optimizer.after"], std::pair(6, 6));
  EXPECT_EQ(copies["weights.after"], std::pair(11, 6));  // forward, backward
  EXPECT_EQ(copies["weights.before"], std::pair(12, 6));
  EXPECT_EQ(copies["gradients.before"], std::pair(6, 6));
  EXPECT_TRUE(updates_early(plan.profile.flow, plan.program));
}

class ValidatorOfPersistent : public ::testing::TestWithParam<Wrong> {};

Residency& residency_of(Plan& plan, const char* cls) {
  return plan.program.residencies[copy_of(plan, cls, Direction::in).residency];
}

// Of early updates: the parameters of layer 0 are used again after their update.
TEST(Persistent, AnUpdateIsTheLastToUseItsParameters) {
  Plan plan = paged_plan(synthetic_profile({.layers = 3, .context = 4096}), Paged::weights, 3, 2, true);
  const auto is = [&](const Call& call, const char* segment) {
    return plan.profile.flow.segments[call.segment].name == segment;
  };
  const auto update = std::ranges::find_if(plan.program.calls, [&](const Call& c) { return is(c, "update.after"); });
  ASSERT_EQ(update->layer, LayerIndex(2));
  update->layer = LayerIndex(0);
  EXPECT_THAT(check::validate(plan), ::testing::Contains(HasSubstr("has updated")));
  plan.sequences = 2;
  EXPECT_THAT(check::validate(plan), ::testing::Contains(HasSubstr("comes after an update")));
}

TEST_P(ValidatorOfPersistent, NamesWhatIsWrong) {
  Plan plan = paged_plan(synthetic_profile({.layers = 3, .context = 4096}), Paged::weights, 3, 2);
  GetParam().change(plan);
  EXPECT_THAT(check::validate(plan), ::testing::Contains(HasSubstr(GetParam().failure)));
}

INSTANTIATE_TEST_SUITE_P(
    Plans, ValidatorOfPersistent,
    ::testing::Values(
        Wrong{"LostUpdate",
              [](Plan& p) {
                p.program.copies.erase(p.program.copies.begin() + first_copy(p, "optimizer.after", Direction::out));
              },
              "of optimizer.after of layer 0, block 0 is never written out"},
        Wrong{"AnotherAddress", [](Plan& p) { residency_of(p, "weights.after").offset += Bytes(4096); },
              "a persistent tensor has one address"},
        Wrong{"AnotherPlace", [](Plan& p) { copy_of(p, "weights.after", Direction::in).tier_offset += Bytes(4096); },
              "a persistent tensor has one place"},
        Wrong{"Stale",
              [](Plan& p) { copy_of(p, "gradients.after", Direction::out).before = p.program.calls.end_index(); },
              "its newest content need only be out by"},
        Wrong{"LostBeforeTheNextSequence",
              [](Plan& p) {
                p.sequences = 2;
                p.program.copies.erase(p.program.copies.begin() + first_copy(p, "gradients.before", Direction::out));
              },
              "is not written out before the next sequence"},
        Wrong{"NotFetched",
              [](Plan& p) {
                p.program.copies.erase(p.program.copies.begin() + first_copy(p, "weights.before", Direction::in));
              },
              "no copy fetches it"},
        Wrong{"Produced", [](Plan& p) { residency_of(p, "optimizer.before").origin = Origin::produced; },
              "but the tensor outlives the step"},
        Wrong{"HeldForAWhile", [](Plan& p) { residency_of(p, "weights.before").origin = Origin::held; },
              "is held, but from boundary"},
        Wrong{"UpdateTooEarly",
              [](Plan& p) {
                const CallIndex k = update_begin(p.profile.flow, p.program);
                std::swap(p.program.calls[k], p.program.calls[k - 3]);
                p.sequences = 2;
              },
              "comes after an update"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace memo::planner
