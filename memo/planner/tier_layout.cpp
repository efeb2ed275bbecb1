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
  Boundary begin{std::numeric_limits<int>::max()}, end;  // the first write starts, the last fetch has ended
  std::vector<std::pair<InstanceIndex, int>> members;    // (tensor, life), in the order of blocks
  Bytes bytes;
};

}  // namespace

TierLayout lay_out_tiers(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                         const std::vector<Stay>& stays) {
  std::map<std::tuple<int, ClassIndex, LayerIndex, int, int, bool>, Bundle> bundles;  // by tier first
  Boundary step_end(1);
  for (const Stay& stay : stays) step_end = std::max(step_end, stay.end);
  for (const Stay& stay : stays) {
    if (!stay.written_out() && !stay.fetched && !stay.refreshed()) continue;
    const Tensor tensor = instances.tensor(stay.tensor);
    const int tier = placement.tier(tensor.cls, tensor.layer);
    const bool again = placement.place(tensor.cls, tensor.layer, tensor.block) == PlacementMap::Place::recompute;
    Bundle& bundle = bundles[{tier, tensor.cls, tensor.layer, tensor.group, stay.life, again}];
    if (stay.slot >= 0) {  // persistent: there from step to step
      bundle = {Boundary(0), step_end, {{stay.tensor, stay.life}}, round_up(tensor.bytes, copy_alignment)};
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
  for (const ClassIndex cls : profile.flow.classes.indices())
    for (const LayerIndex layer : indices<LayerIndex>(profile.flow.layers))
      if (placement.stays(cls, layer)) {
        const InstanceIndex tensor = instances.of(cls, layer, BlockIndex(0), 0);
        bundles[{placement.tier(cls, layer), cls, layer, 0, 0, false}] = {
            Boundary(0), step_end, {{tensor, 0}}, round_up(instances.tensor(tensor).bytes, copy_alignment)};
      }
  TierLayout layout;
  layout.bytes.assign(profile.tiers.size(), Bytes(0));
  for (int tier = 0; tier < static_cast<int>(profile.tiers.size()); ++tier) {
    pack::Instance instance;
    std::vector<const Bundle*> order;
    for (const auto& [key, bundle] : bundles) {
      if (std::get<0>(key) != tier) continue;
      instance.push_back({bundle.begin.value(), bundle.end.value(), bundle.bytes.value(), copy_alignment, {}});
      order.push_back(&bundle);
    }
    if (instance.empty()) continue;
    const pack::Packing packing = packed(instance);
    layout.bytes[at(tier)] = Bytes(packing.peak);
    for (std::size_t i = 0; i < order.size(); ++i) {
      Bytes next(packing.offsets[i]);
      for (const auto& member : order[i]->members) {
        layout.extent.emplace(member, next);
        next += round_up(instances.tensor(member.first).bytes, copy_alignment);
      }
    }
  }
  return layout;
}

}  // namespace memo::planner
