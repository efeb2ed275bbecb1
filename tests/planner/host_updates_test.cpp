// Layers that the host updates: what moves for them, when, and what the validator says when that goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "../plan/synthetic_profile.h"
#include "built_plan.h"
#include "memo/check/validate.h"
#include "memo/planner/build.h"
#include "memo/planner/planner.h"
#include "memo/planner/streaming.h"

namespace memo::planner {
namespace {

using model::Stage, model::TensorRole;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// `seconds`: of an update of half a layer on the host.
Profile profile_of(std::int64_t layers, double seconds = 1e-3) {
  Profile profile = synthetic_profile({.layers = layers, .context = 4096});
  model::add_host_updates(profile.flow);
  for (const SegmentIndex s : profile.flow.segments.indices())
    if (profile.flow.segments[s].stage == Stage::host_update)
      profile.traces.push_back({s, false, profile.flow.context, Seconds(seconds), {}});
  return profile;
}

Plan updated_plan(const Profile& profile, int layers, bool page_weights, const Pace& pace) {
  const Placement all = streamed(place_swapped(profile, 0), profile, 0);
  return built_plan(profile, updated_on_host(all, profile, 0, layers, page_weights).classes, pace);
}

constexpr Pace one_sequence{2, false, false, true};

// Bytes of parameters that cross the link in a step: out and in.
std::pair<Bytes, Bytes> moved(const Plan& plan) {
  std::pair<Bytes, Bytes> sum;
  for (const Copy& copy : plan.program.copies)
    if (class_of(plan, copy).persistent())
      (copy.direction == Direction::out ? sum.first : sum.second) += class_of(plan, copy).layer_bytes;
  return sum;
}
Bytes bytes_of(const Plan& plan, TensorRole role) {
  Bytes sum;
  for (const model::TensorClass& cls : plan.profile.flow.classes)
    if (cls.role == role) sum += cls.layer_bytes * std::int64_t{plan.profile.flow.layers};
  return sum;
}

TEST(HostUpdates, PlansHoldAtEveryNumberOfSlotsAndLayers) {
  for (const int layers : {1, 2, 5})
    for (const int on_host : {1, layers})
      for (const int slots : {1, 2, 3})
        for (const bool page_weights : {false, true})
          for (const bool early : {false, true})
            for (const bool one : {false, true}) {
              Plan plan = updated_plan(profile_of(layers), on_host, page_weights, {slots, false, early, one});
              EXPECT_THAT(check::validate(plan), IsEmpty())
                  << layers << " layers, " << on_host << " on the host, " << slots << " slots, weights paged "
                  << page_weights << ", early updates " << early << ", one sequence " << one;
              EXPECT_EQ(plan.program.on_tier.size(), 2 * at(on_host));
            }
}

// Gradients of 4 bytes leave, weights of the compute type come: 6 bytes a parameter in bfloat16.
TEST(HostUpdates, OneCopyOfGradientsLeavesAndOneOfWeightsComes) {
  const Plan plan = updated_plan(profile_of(6), 6, false, one_sequence);
  EXPECT_EQ(moved(plan), std::pair(bytes_of(plan, TensorRole::gradients), bytes_of(plan, TensorRole::weights)));
}

TEST(HostUpdates, PagedWeightsComeForForwardAndForBackward) {
  const Plan plan = updated_plan(profile_of(6), 6, true, one_sequence);
  const auto [out, in] = moved(plan);
  EXPECT_EQ(out, bytes_of(plan, TensorRole::gradients));
  EXPECT_GT(in, bytes_of(plan, TensorRole::weights) * 3 / 2);  // the last layer's backward follows at once
  EXPECT_LE(in, bytes_of(plan, TensorRole::weights) * 2);
}

TEST(HostUpdates, ASequenceThatIsNotTheOnlyOneFetchesTheGradientsOfTheOthers) {
  const Plan plan = updated_plan(profile_of(6), 6, false, {2, false});
  EXPECT_EQ(moved(plan).second, bytes_of(plan, TensorRole::weights) + bytes_of(plan, TensorRole::gradients));
}

TEST(HostUpdates, OptimizerStateIsNeverOnTheDevice) {
  const Plan plan = updated_plan(profile_of(4), 3, false, one_sequence);
  for (const Residency& r : plan.program.residencies)
    EXPECT_TRUE(class_of(plan, r.tensor).role != TensorRole::optimizer ||
                plan.program.tensors[r.tensor].layer == LayerIndex(3));
}

TEST(HostUpdates, ThePlanUpdatesWhereItIsFaster) {
  const auto on_host = [](double seconds) {
    const Profile profile = profile_of(8, seconds);
    Request request{"memo", Bytes(0), 0};
    request.device_limit = Bytes(std::int64_t{480} << 20);
    const Result<Plan> plan = make_plan(profile, request);
    EXPECT_TRUE(plan) << (plan ? "" : plan.error().message);
    if (!plan) return false;
    EXPECT_THAT(check::validate(*plan), IsEmpty());
    return !plan->program.on_tier.empty();
  };
  EXPECT_TRUE(on_host(1e-4));
  EXPECT_FALSE(on_host(10));
}

void erase_copy(Plan& plan, const char* cls, Direction direction) {
  plan.program.copies.erase(plan.program.copies.begin() + first_copy(plan, cls, direction));
}
CallIndex call_of(const Plan& plan, const char* segment) {
  const auto found = std::ranges::find_if(
      plan.program.calls, [&](const Call& call) { return plan.profile.flow.segments[call.segment].name == segment; });
  return CallIndex(static_cast<int>(found - plan.program.calls.begin()));
}

class ValidatorOfHostUpdates : public ::testing::TestWithParam<Wrong> {};

TEST_P(ValidatorOfHostUpdates, NamesWhatIsWrong) {
  Plan plan = updated_plan(profile_of(3), 2, false, one_sequence);
  ASSERT_THAT(check::validate(plan), IsEmpty());
  GetParam().change(plan);
  EXPECT_THAT(check::validate(plan), Contains(HasSubstr(GetParam().failure)));
}

INSTANTIATE_TEST_SUITE_P(
    Plans, ValidatorOfHostUpdates,
    ::testing::Values(
        Wrong{"GradientsStay", [](Plan& p) { erase_copy(p, "gradients.after", Direction::out); },
              "is not written out before the host's first update"},
        Wrong{"GradientsLate",
              [](Plan& p) {
                copy_of(p, "gradients.before", Direction::out).before = call_of(p, "host_update.after") + 1;
              },
              "is not written out before the host's first update"},
        Wrong{"OldWeights", [](Plan& p) { erase_copy(p, "weights.after", Direction::in); }, "0 copies fetch it after"},
        Wrong{"WeightsFetchedTooEarly",
              [](Plan& p) { copy_of(p, "weights.after", Direction::in).at = call_of(p, "host_update.after") - 1; },
              "updates it after that"},
        Wrong{"WeightsWrittenOut",
              [](Plan& p) { copy_of(p, "weights.after", Direction::in).direction = Direction::out; },
              "is written out, over what the host updates"},
        Wrong{"StateLost", [](Plan& p) { p.program.on_tier.pop_back(); }, "stays on no tier"},
        Wrong{"StateTwice", [](Plan& p) { p.program.on_tier.push_back(p.program.on_tier.front()); }, "in two places"},
        Wrong{"StateOverlaps",
              [](Plan& p) { p.program.on_tier.front().tier_offset = p.program.on_tier.back().tier_offset; },
              "overlap on the tier"},
        Wrong{"StateOfALayerThatTheDeviceUpdates",
              [](Plan& p) { p.program.calls[call_of(p, "host_update.after")].layer = LayerIndex(2); },
              "the host does not update its layer"},
        Wrong{"UpdatedTwice",
              [](Plan& p) {
                const CallIndex k = call_of(p, "host_update.after");
                p.program.calls[k + 1] = p.program.calls[k];
              },
              "was made already"},
        Wrong{"NotUpdated",
              [](Plan& p) {
                const CallIndex wait = call_of(p, "wait");
                p.program.calls[call_of(p, "host_update.after")] = p.program.calls[wait];
              },
              "no call runs update.after forward, layer 1"},
        Wrong{"ZeroesOfManySequences", [](Plan& p) { p.sequences = 2; }, "begins as zeros, which only gradients do"},
        Wrong{"WeightsAsZeros",
              [](Plan& p) {
                p.program.residencies[copy_of(p, "weights.after", Direction::in).residency].origin = Origin::zeroed;
              },
              "begins as zeros, which only gradients do"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace memo::planner
