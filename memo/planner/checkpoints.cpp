// Changes a placement to groups of layers.
#include "memo/planner/checkpoints.h"

namespace memo::planner {

Placement checkpointed(Placement placement, const Profile& profile, int k) {
  const model::Dataflow& flow = profile.flow;
  const ClassIndex input = layer_input(flow);
  const LayerIndex placed(flow.placed_layers());
  for (ClassPlacement& entry : placement.classes) {
    if (flow.classes[entry.cls].persistent() || entry.layer >= placed) continue;
    const bool first = entry.layer.value() % k == 0;
    const bool alone = first && entry.layer + 1 >= placed;
    if (alone || (first && entry.cls == input)) continue;
    entry.recomputed = flow.blocks();
    entry.swapped = entry.kept = 0;
  }
  return placement;
}

bool input_recomputed(const model::Dataflow& flow, const PlacementMap& placement, LayerIndex layer) {
  const ClassIndex input = layer_input(flow);
  return input.exists() && layer > LayerIndex(0) && layer < LayerIndex(flow.placed_layers()) &&
         placement.recomputed(input, layer) == flow.blocks();
}

}  // namespace memo::planner
