// The units of a profile, and the placements by fixed rules.
#include "memo/planner/placement.h"

#include <algorithm>
#include <cmath>

#include "memo/base/check.h"
#include "memo/base/index.h"
#include "memo/planner/residency.h"

namespace memo::planner {
namespace {

using model::Stage;

// Sums over a layer's tensors.
bool read_in_backward(const model::Dataflow& flow, ClassIndex cls, LayerIndex layer) {
  for (const SegmentIndex s : flow.segments.indices())
    if (flow.in_layer(s, layer) &&
        std::ranges::any_of(flow.segments[s].backward.reads, [&](const model::Use& use) { return use.cls == cls; }))
      return true;
  return false;
}

// Whether running `segment` again reads `cls`, which must then be fetched from its tier once more.
bool reads(const model::Segment& segment, ClassIndex cls) {
  return std::ranges::any_of(segment.forward.reads, [&](const model::Use& use) { return use.cls == cls; });
}

// Whether the segment brings a layer's input into the table from outside.
bool is_input(const model::Segment& segment) {
  return segment.stage == Stage::before && segment.forward.reads.empty() && !segment.forward.writes.empty();
}

void measure(Unit& unit, const Profile& profile, int tier) {
  const model::Dataflow& flow = profile.flow;
  for (const ClassIndex cls : unit.classes) {
    const model::TensorClass& c = flow.classes[cls];
    const Bytes bytes = c.row * (flow.block.value() * (c.grouped ? flow.groups : 1));
    unit.keep_bytes += bytes;
    if (tier >= 0 && swappable(profile, cls, tier)) unit.swap_bytes += bytes;
    unit.whole_keep = unit.whole_keep || c.sequence;
  }
}

std::vector<std::pair<int, Seconds>> prefixes(const Profile& profile, const Unit& unit, int tier) {
  const model::Dataflow& flow = profile.flow;
  std::vector<std::pair<int, Seconds>> result;
  const auto is_first = [&](const Trace& t, int blocks) {
    return t.segment == unit.segment && !t.backward && t.tokens == flow.block * blocks;
  };
  const bool rest_swaps =
      std::ranges::all_of(unit.classes, [&](ClassIndex cls) { return swappable(profile, cls, tier); });
  if (rest_swaps)
    for (const int blocks : flow.prefixes())
      for (const Trace& trace : profile.traces)
        if (is_first(trace, blocks)) result.emplace_back(blocks, trace.seconds * flow.groups);
  const Trace& all = profile.traces[profile.trace_of(unit.segment, false, flow.context)];
  result.emplace_back(flow.blocks(), all.seconds * flow.groups);
  return result;
}

// Adds the tensors of the layer's stage `before` to the unit: an external layer can only be computed again from its
// beginning.
void join(std::vector<Unit>& units, const Unit& unit, const Profile& profile) {
  const auto before = std::ranges::find_if(units, [&](const Unit& u) {
    return u.layer == unit.layer && u.segment.exists() &&
           profile.flow.segments[u.segment].stage == model::Stage::before;
  });
  MEMO_CHECK(before != units.end(), "a layer alone has a stage before attention");
  before->classes.insert(before->classes.end(), unit.classes.begin(), unit.classes.end());
  before->swap_bytes += unit.swap_bytes;
  before->keep_bytes += unit.keep_bytes;
  before->rerun += unit.rerun;
}

}  // namespace

Seconds layer_seconds(const Profile& profile, LayerIndex layer, bool backward) {
  const model::Dataflow& flow = profile.flow;
  Seconds sum;
  for (const SegmentIndex s : flow.segments.indices()) {
    const model::Segment& segment = flow.segments[s];
    if (!flow.layered(s) || !flow.in_layer(s, layer) || (backward && !segment.has_backward())) continue;
    const bool core = segment.stage == Stage::core;
    const Tokens tokens = core ? flow.context : flow.block_tokens(BlockIndex(0));
    sum += profile.traces[profile.trace_of(s, backward, tokens)].seconds * (core ? flow.groups : flow.blocks());
  }
  return sum;
}

ClassIndex layer_input(const model::Dataflow& flow) {
  for (const model::Segment& segment : flow.segments)
    if (segment.stage == Stage::after)
      for (const model::Use& use : segment.forward.writes)
        if (use.layer_shift == 1) return use.cls;
  for (const model::Segment& segment : flow.segments)
    if (is_input(segment)) return segment.forward.writes.front().cls;
  return ClassIndex::none();
}

std::vector<Unit> units(const Profile& profile, int tier) {
  const model::Dataflow& flow = profile.flow;
  const ClassIndex input = layer_input(flow);
  std::vector<Unit> result;
  for (LayerIndex layer(flow.forward_layers); layer < LayerIndex(flow.placed_layers()); ++layer) {
    Unit input_unit;
    input_unit.layer = layer;
    input_unit.classes = {input};
    measure(input_unit, profile, tier);
    result.push_back(input_unit);
    for (const SegmentIndex s : flow.segments.indices()) {
      const model::Segment& segment = flow.segments[s];
      if (!flow.layered(s) || !flow.in_layer(s, layer) || is_input(segment)) continue;
      Unit unit;
      unit.segment = s;
      unit.layer = layer;
      for (const model::Use& use : segment.forward.writes)
        if (use.layer_shift == 0 && read_in_backward(flow, use.cls, layer)) unit.classes.push_back(use.cls);
      if (unit.classes.empty()) continue;
      measure(unit, profile, tier);
      if (segment.stage == Stage::core)
        unit.prefixes = prefixes(profile, unit, tier);
      else
        unit.rerun = profile.traces[profile.trace_of(unit.segment, false, flow.block_tokens(BlockIndex(0)))].seconds;
      if (reads(segment, input)) unit.rerun_input = input_unit.swap_bytes;
      if (flow.layers_alone() && segment.stage == Stage::after)
        join(result, unit, profile);
      else
        result.push_back(unit);
    }
  }
  return result;
}

void add_unit(Placement& placement, const Profile& profile, const Unit& unit, int recomputed, int swapped, int tier) {
  for (const ClassIndex cls : unit.classes) {
    const int out = swappable(profile, cls, tier) ? swapped : 0;
    placement.classes.push_back({cls, unit.layer, recomputed, out, profile.flow.blocks() - recomputed - out, tier});
  }
}

Placement without_idle_inputs(Placement placement, const Profile& profile) {
  const model::Dataflow& flow = profile.flow;
  const ClassIndex input = layer_input(flow);
  for (ClassPlacement& entry : placement.classes) {
    if (entry.cls != input || entry.streamed || entry.swapped == 0 || entry.layer >= LayerIndex(flow.layers) ||
        read_in_backward(flow, input, entry.layer))
      continue;
    int again = 0;
    for (const ClassPlacement& other : placement.classes)
      if (other.layer == entry.layer && other.cls != input) again = std::max(again, other.recomputed);
    entry.swapped = std::min(entry.swapped, again);
    entry.kept = flow.blocks() - entry.recomputed - entry.swapped;
  }
  return placement;
}

Placement place_resident(const Profile& profile) {
  Placement placement;
  for (const Unit& unit : units(profile, -1)) add_unit(placement, profile, unit, 0, 0, 0);
  return placement;
}

Placement place_recompute(const Profile& profile, int tier) {
  Placement placement;
  const int blocks = profile.flow.blocks();
  for (const Unit& unit : units(profile, tier)) {
    if (unit.segment.exists()) {
      add_unit(placement, profile, unit, blocks, 0, 0);
    } else {
      add_unit(placement, profile, unit, 0, tier >= 0 ? blocks : 0, std::max(tier, 0));
    }
  }
  return placement;
}

Placement place_swapped(const Profile& profile, int tier) {
  Placement placement;
  for (const Unit& unit : units(profile, tier)) add_unit(placement, profile, unit, 0, profile.flow.blocks(), tier);
  return placement;
}

Placement place_alpha(const Profile& profile, int tier) {
  const model::Dataflow& flow = profile.flow;
  const int blocks = flow.blocks();
  const std::vector<Unit> all = units(profile, tier);
  const auto always = [&](const Unit& unit) { return !unit.segment.exists() || unit.whole(); };
  double always_bytes = 0, other_bytes = 0, forward = 0;  // of a layer, where they differ on average
  for (const Unit& unit : all)
    (always(unit) ? always_bytes : other_bytes) += static_cast<double>(unit.swap_bytes.value()) * blocks;
  const int placed = std::max(1, flow.placed_layers() - flow.forward_layers);
  always_bytes /= placed;
  other_bytes /= placed;
  const double first = layer_seconds(profile, LayerIndex(0), false).value();
  for (const LayerIndex layer : indices<LayerIndex>(flow.layers))
    forward += (layer_seconds(profile, layer, false).value() - first) / flow.layers;
  forward += first;
  const Tier& slow = profile.tiers[at(tier)];
  const double swapped_layers = std::max(0, flow.layers - 2);
  Placement placement;
  if (other_bytes > 0) {
    const double by_time = (forward * slow.write.value() - always_bytes) / other_bytes;
    const double capacity = static_cast<double>(slow.capacity.value());
    const double by_space = swapped_layers > 0 ? (capacity / swapped_layers - always_bytes) / other_bytes : 1.0;
    placement.alpha = std::clamp(std::min(by_time, by_space), 0.0, 1.0);
  }
  const int swapped = static_cast<int>(std::floor(placement.alpha * blocks));
  for (const Unit& unit : all) {
    if (unit.layer >= LayerIndex(flow.layers - 2)) {
      add_unit(placement, profile, unit, 0, 0, tier);
    } else if (always(unit)) {
      add_unit(placement, profile, unit, 0, blocks, tier);
    } else {
      add_unit(placement, profile, unit, blocks - swapped, swapped, tier);
    }
  }
  return placement;
}

}  // namespace memo::planner
