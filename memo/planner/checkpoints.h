// Several layers per checkpoint: only every k-th layer's input is stored, and before the backward pass of such a group
// of layers their forward runs again from it. Layers outside of the current group store less, the current group stores
// more. This pays for deep models whose tier (or device, without a tier) cannot hold the inputs of all layers.
#pragma once

#include "memo/planner/placement.h"
#include "memo/planner/schedule.h"

namespace memo::planner {

// `placement` where the inputs of all placed layers but 0, k, 2k, ... are recomputed, and so is everything else in
// groups of more than one layer. `k` > 1.
Placement checkpointed(Placement placement, const Profile& profile, int k);

// Whether the layer's input is recomputed: its group then begins at an earlier layer.
bool input_recomputed(const model::Dataflow& flow, const PlacementMap& placement, LayerIndex layer);

}  // namespace memo::planner
