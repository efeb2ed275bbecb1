// Placements by rules and by the mixed-integer program, against their definitions.
#include "memo/planner/placement.h"

#include <gtest/gtest.h>

#include <numeric>

#include "../plan/synthetic_profile.h"

namespace memo::planner {
namespace {

const ClassPlacement& entry(const Placement& placement, ClassIndex cls, LayerIndex layer) {
  for (const ClassPlacement& placed : placement.classes)
    if (placed.cls == cls && placed.layer == layer) return placed;
  ADD_FAILURE() << "class " << cls.value() << " of layer " << layer.value() << " is not placed";
  static const ClassPlacement none;
  return none;
}

TEST(Placement, EveryBlockHasOnePlaceAndTheLastLayerIsNeverPlaced) {
  const Profile profile = synthetic_profile();
  for (const Placement& placement : {place_resident(profile), place_recompute(profile, 0), place_alpha(profile, 0),
                                     place_optimal(profile, 0, Bytes(100 << 20))})
    for (const ClassPlacement& placed : placement.classes) {
      EXPECT_EQ(placed.recomputed + placed.swapped + placed.kept, profile.flow.blocks());
      EXPECT_LT(placed.layer, LayerIndex(profile.flow.layers - 1));
    }
}

TEST(Placement, WhatOneSegmentWritesIsComputedAgainTogether) {
  const Profile profile = synthetic_profile({.bandwidth = 2e8});
  const Placement placement = place_optimal(profile, 0, Bytes(0));
  const ClassIndex qkv = profile.flow.find_class(model::TensorRole::qkv),
                   statistic = profile.flow.find_class(model::TensorRole::saved);
  for (const LayerIndex layer : indices<LayerIndex>(profile.flow.layers - 1))
    EXPECT_EQ(entry(placement, qkv, layer).recomputed, entry(placement, statistic, layer).recomputed);
}

// MEMO's closed form, computed here from the paper's inequality and this profile's bytes and seconds.
TEST(Placement, AlphaIsTheLargestFractionWhoseSwapHidesUnderTheForwardPass) {
  SyntheticOptions options{.bandwidth = 1e8};
  const Profile profile = synthetic_profile(options);
  const double s = 8192, h = 512, f = 2 * 1536;
  const double always = s * (h + h) * 4 + s * 8 * 4;  // x, o and the log-sum-exp
  const double other = s * (2 * h + h + f) * 4;       // qkv, x1, h; the statistic is too small to swap
  const double forward = (4 * 4 * h * h * s + 2 * s * s * h) / options.flops;  // four token-wise segments, attention
  const double alpha = (forward * options.bandwidth - always) / other;
  ASSERT_GT(alpha, 0);
  ASSERT_LT(alpha, 1);
  EXPECT_NEAR(place_alpha(profile, 0).alpha, alpha, 1e-9);
}

TEST(Placement, NothingIsComputedAgainWhenTheTierIsFast) {
  const Placement placement = place_optimal(synthetic_profile({.bandwidth = 1e11}), 0, Bytes(0));
  for (const ClassPlacement& placed : placement.classes) EXPECT_EQ(placed.recomputed, 0);
}

TEST(Placement, KeepsWithinItsBudget) {
  const Profile profile = synthetic_profile();
  for (const std::int64_t budget : {std::int64_t{0}, std::int64_t{50} << 20, std::int64_t{400} << 20}) {
    std::int64_t kept = 0;
    for (const ClassPlacement& placed : place_optimal(profile, 0, Bytes(budget)).classes)
      if (profile.flow.classes[placed.cls].row > Bytes(4))
        kept += placed.kept * (profile.flow.classes[placed.cls].row * 1024).value();
    EXPECT_LE(kept, budget);
    EXPECT_EQ(kept > 0, budget > 0);
  }
}

TEST(Placement, ReportsAProvedGap) {
  EXPECT_LE(place_optimal(synthetic_profile({.bandwidth = 1e8}), 0, Bytes(200 << 20)).gap, 0.05);
}

}  // namespace
}  // namespace memo::planner
