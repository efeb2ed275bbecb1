// Several layers per checkpoint: only every k-th layer's input is stored, and before the backward pass of such a group
// of layers their forward runs again from it. Less is stored by all layers, more by the group that is at work: it pays
// for deep models whose tier (or device, without one) cannot hold the inputs of all layers.
#pragma once

#include "memo/planner/placement.h"
#include "memo/planner/schedule.h"

namespace memo::planner {

// `placement` with the inputs of all placed layers but 0, k, 2k, ... computed again, and all else of groups of more
// than one layer too. `k` > 1.
Placement checkpointed(Placement placement, const Profile& profile, int k);

// Whether the layer's input is computed again: its group then begins at an earlier layer.
bool input_recomputed(const model::Dataflow& flow, const PlacementMap& placement, LayerIndex layer);

}  // namespace memo::planner
