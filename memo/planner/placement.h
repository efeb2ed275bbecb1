// Decides which blocks of which classes are kept on the device, swapped to a tier, or recomputed.
#pragma once

#include <string>
#include <vector>

#include "memo/plan/plan.h"

namespace memo::planner {

using namespace plan;  // what is decided

// The tensors that are placed as one: those that one segment writes for a block of a layer and that backward needs.
// They are recomputed together or not at all. In a step of a whole model the last layer is never placed: its backward
// follows at once. In layers alone, the stages before and after attention are one unit.
struct Unit {
  SegmentIndex segment = SegmentIndex::none();  // computes it again; none: the layer's input, which is not recomputed
  LayerIndex layer;
  std::vector<ClassIndex> classes;
  Bytes swap_bytes;   // of one block: what a swap moves
  Bytes keep_bytes;   // of one block: what keeping it on the device takes
  Bytes rerun_input;  // of one block: read again from the tier to compute the unit again
  Seconds rerun;      // of one block
  // For core attention's outputs: each prefix that may be recomputed, in blocks, with its time (attention is causal, so
  // the first fraction f costs f^2). The last entry is the whole sequence; shorter prefixes appear only if the rest can
  // be swapped.
  std::vector<std::pair<int, Seconds>> prefixes;
  [[nodiscard]] bool whole() const { return !prefixes.empty(); }
  bool whole_keep = false;  // kept as a whole layer or not at all (blocks of a sequence lie together)
};

std::vector<Unit> units(const Profile& profile, int tier);
// Compute time of one side of a layer: all its blocks and head groups.
Seconds layer_seconds(const Profile& profile, LayerIndex layer, bool backward);
// The class that a layer reads first, which the layer before it writes; or none.
ClassIndex layer_input(const model::Dataflow& flow);

struct Placement {
  std::vector<ClassPlacement> classes;
  double gap = 0;    // proved, of the optimiser's model
  double alpha = 0;  // MEMO's fraction of token-wise tensors that are swapped
};

// Adds the unit's classes; classes that are too small to swap are kept instead.
void add_unit(Placement& placement, const Profile& profile, const Unit& unit, int recomputed, int swapped, int tier);

// Where no layer's backward side reads the layer's input (of a norm that was taken out, say), only recomputed blocks
// need it: the inputs of other blocks are kept instead of swapped.
Placement without_idle_inputs(Placement placement, const Profile& profile);

Placement place_resident(const Profile& profile);
// Layer inputs are kept (tier < 0) or swapped to `tier`; everything else is recomputed.
Placement place_recompute(const Profile& profile, int tier);
// Everything that can be swapped is swapped to `tier`.
Placement place_swapped(const Profile& profile, int tier);
// MEMO (SIGMOD 2025, section 4.1): layer input and attention output are swapped whole, and of all other tensors the
// largest fraction alpha such that (S_input + S_attn + alpha S_other) / bandwidth <= forward time of a layer and the
// tier holds all; the last two layers are kept.
Placement place_alpha(const Profile& profile, int tier);
// The least predicted recomputation and stall such that kept tensors take at most `keep_budget` and swapped ones at
// most `tier_budget`: a mixed-integer program over block counts for each unit. tier < 0: no tier.
Placement place_optimal(const Profile& profile, int tier, Bytes keep_budget, Bytes tier_budget);
inline Placement place_optimal(const Profile& profile, int tier, Bytes keep_budget) {
  return place_optimal(profile, tier, keep_budget, tier < 0 ? Bytes(0) : profile.tiers[at(tier)].capacity);
}

}  // namespace memo::planner
