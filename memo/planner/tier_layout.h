// The place of each tensor on its tier: the blocks of a layer's class lie one after another, and layers whose times on
// the tier do not overlap share bytes (the same packing as for the arena).
#pragma once

#include <map>
#include <tuple>
#include <vector>

#include "memo/planner/residency.h"

namespace memo::planner {

struct TierLayout {
  std::vector<Bytes> bytes;                               // used of each tier
  std::map<std::pair<InstanceIndex, int>, Bytes> extent;  // (tensor, life) -> offset
  [[nodiscard]] Bytes offset(InstanceIndex tensor) const { return extent.at({tensor, 0}); }
  [[nodiscard]] Bytes offset(const Stay& stay) const { return extent.at({stay.tensor, stay.life}); }
};

// Tensors that stay on their tier are in the layout too.
TierLayout lay_out_tiers(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                         const std::vector<Stay>& stays);

}  // namespace memo::planner
