// Changes a placement to groups of layers.
#include "memo/planner/checkpoints.h"

namespace memo::planner {

Placement checkpointed(Placement placement, const Profile& profile, int k) {
  const model::Dataflow& flow = profile.flow;
  const int input = layer_input(flow), placed = flow.placed_layers(), blocks = flow.blocks();
  for (ClassPlacement& entry : placement.classes) {
    if (flow.classes[static_cast<std::size_t>(entry.cls)].lasting() || entry.layer >= placed) continue;
    const bool first = entry.layer % k == 0;
    const bool alone = first && entry.layer + 1 >= placed;
    if (alone || (first && entry.cls == input)) continue;
    entry.recomputed = blocks;
    entry.swapped = entry.kept = 0;
  }
  return placement;
}

bool input_recomputed(const model::Dataflow& flow, const PlacementMap& placement, int layer) {
  const int input = layer_input(flow);
  return input >= 0 && layer > 0 && layer < flow.placed_layers() && placement.recomputed(input, layer) == flow.blocks();
}

}  // namespace memo::planner
