// The context beyond which compute hides all copies, against the simulator.
#include "memo/estimate/overlap.h"

#include <gtest/gtest.h>

#include "memo/estimate/profile.h"
#include "memo/planner/build.h"
#include "memo/planner/placement.h"
#include "memo/sim/simulate.h"
#include "setups.h"

namespace memo::estimate {
namespace {

Setup swapped_setup(std::int64_t context) {
  Training setup = megatron("gpt-7b", 8, context, Recompute::none);
  setup.hardware = gpu("A800");
  find_strategy("memo")->apply(setup);
  setup.block = usual_block(setup.local_tokens());
  return setup;
}

// The share of a step that compute waits for copies when everything leaves, as the simulator plays it.
double waits(std::int64_t context) {
  const plan::Profile profile = model_profile(swapped_setup(context)).profile;
  const auto built = planner::build_program(profile, planner::place_swapped(profile, 0).classes, {4, true});
  const sim::Timeline timeline = sim::simulate(profile, built.program);
  return timeline.stall / timeline.step;
}

TEST(HiddenFrom, TheSimulatorWaitsBelowItAndNotBeyond) {
  const auto from = hidden_from(swapped_setup(65536));
  ASSERT_TRUE(from);
  EXPECT_GT(waits(from->value() / 4), 0.05);
  EXPECT_LT(waits(from->value() * 2), 0.01);
}

TEST(HiddenFrom, ASlowerHostHidesLater) {
  Training setup = swapped_setup(65536);
  const auto usual = hidden_from(setup);
  setup.hardware.host.write = BytesPerSecond(setup.hardware.host.write.value() / 2);
  const auto slower = hidden_from(setup);
  ASSERT_TRUE(usual && slower);
  EXPECT_GT(*slower, *usual * std::int64_t{3} / std::int64_t{2});
}

}  // namespace
}  // namespace memo::estimate
