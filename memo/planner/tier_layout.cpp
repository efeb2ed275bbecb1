// Bundles blocks, and packs bundles by their times on the tier.
#include "memo/planner/tier_layout.h"

#include <algorithm>
#include <limits>

#include "memo/planner/packed.h"

namespace memo::planner {
namespace {

// Blocks of one class, layer, head group and life that are all recomputed or all not: they are on the tier at the same
// time. A persistent tensor is a bundle by itself.
struct Bundle {
  int begin = std::numeric_limits<int>::max(), end = 0;  // boundaries: the first write starts, the last fetch has ended
  std::vector<std::pair<int, int>> members;              // (tensor, life), in the order of blocks
  Bytes bytes;
};

}  // namespace

TierLayout lay_out_tiers(const Profile& profile, const TensorIndex& index, const PlacementMap& placement,
                         const std::vector<Stay>& stays) {
  std::map<std::tuple<int, int, int, int, int, bool>, Bundle> bundles;  // by tier first
  int step_end = 1;
  for (const Stay& stay : stays) step_end = std::max(step_end, stay.end);
  for (const Stay& stay : stays) {
    if (stay.write_at < 0 && !stay.fetched) continue;
    const Tensor tensor = index.tensor(stay.tensor);
    const int tier = placement.tier(tensor.cls, tensor.layer);
    const bool again = placement.place(tensor.cls, tensor.layer, tensor.block) == PlacementMap::Place::recompute;
    Bundle& bundle = bundles[{tier, tensor.cls, tensor.layer, tensor.group, stay.life, again}];
    if (stay.slot >= 0) {  // lasting: there from step to step
      bundle = {0, step_end, {{stay.tensor, stay.life}}, round_up(tensor.bytes, copy_alignment)};
      continue;
    }
    if (stay.fetched) {
      bundle.end = std::max(bundle.end, stay.first_use);
      continue;
    }
    bundle.begin = std::min(bundle.begin, stay.write_at);
    bundle.end = std::max(bundle.end, stay.write_before);
    bundle.members.emplace_back(stay.tensor, stay.life);
    bundle.bytes += round_up(tensor.bytes, copy_alignment);
  }
  TierLayout layout;
  layout.bytes.assign(profile.tiers.size(), Bytes(0));
  for (int tier = 0; tier < static_cast<int>(profile.tiers.size()); ++tier) {
    pack::Instance instance;
    std::vector<const Bundle*> order;
    for (const auto& [key, bundle] : bundles) {
      if (std::get<0>(key) != tier) continue;
      instance.push_back({bundle.begin, bundle.end, bundle.bytes.value(), copy_alignment, {}});
      order.push_back(&bundle);
    }
    if (instance.empty()) continue;
    const pack::Packing packing = packed(instance);
    layout.bytes[static_cast<std::size_t>(tier)] = Bytes(packing.peak);
    for (std::size_t i = 0; i < order.size(); ++i) {
      Bytes next(packing.offsets[i]);
      for (const auto& member : order[i]->members) {
        layout.extent.emplace(member, next);
        next += round_up(index.tensor(member.first).bytes, copy_alignment);
      }
    }
  }
  return layout;
}

}  // namespace memo::planner
