// Finds the tensors that cross passes, and marks them streamed or paged.
#include "memo/planner/streaming.h"

#include <algorithm>
#include <set>

#include "memo/planner/residency.h"

namespace memo::planner {
namespace {

using model::Dataflow;
using model::Stage;

// The number of the pass in which a side of a layer's stage runs (memo/model/dataflow.h draws the passes).
int pass_of(const Dataflow& flow, Stage stage, bool backward, LayerIndex of) {
  const int layer = of.value();
  const int turn = 2 * flow.layers;
  if (flow.layers_alone()) {
    const int part = stage == Stage::before ? 0 : stage == Stage::core ? 1 : 2;
    return backward ? 6 * flow.layers - 1 - (3 * layer + part) : 3 * layer + part;
  }
  switch (stage) {
    case Stage::embedding:
      return backward ? 2 * turn : 0;
    case Stage::before:
      return backward ? 2 * turn - 2 * layer : 2 * layer;
    case Stage::core:
      return backward ? 2 * turn - 2 * layer - 1 : 2 * layer + 1;
    case Stage::after:
      return backward ? 2 * turn - 2 * (layer + 1) : 2 * (layer + 1);
    case Stage::loss:
      return turn;
    case Stage::update:
    case Stage::optimizer:
    case Stage::host_update:
    case Stage::wait:
      break;
  }
  return 2 * turn + 1;
}

// Whether tensors of `cls` and `layer` are used in more than one pass.
bool crosses(const Dataflow& flow, ClassIndex cls, LayerIndex layer) {
  std::set<int> passes;
  for (const SegmentIndex s : flow.segments.indices()) {
    const model::Segment& segment = flow.segments[s];
    for (const bool backward : {false, true}) {
      const model::Side& side = backward ? segment.backward : segment.forward;
      for (const auto* uses : {&side.reads, &side.writes})
        for (const model::Use& use : *uses) {
          const LayerIndex of = layer - use.layer_shift;  // the call's layer
          if (use.cls != cls) continue;
          const bool runs = flow.layered(s) ? of >= LayerIndex(backward ? flow.forward_layers : 0) &&
                                                  of < LayerIndex(flow.layers) && flow.in_layer(s, of)
                                            : layer == LayerIndex(segment.stage == Stage::loss ? flow.layers : 0);
          if (runs) passes.insert(pass_of(flow, segment.stage, backward, of));
        }
    }
  }
  return passes.size() > 1;
}

}  // namespace

Placement streamed(Placement placement, const Profile& profile, int tier) {
  const Dataflow& flow = profile.flow;
  std::set<std::pair<ClassIndex, LayerIndex>> placed;
  for (ClassPlacement& entry : placement.classes) {
    placed.emplace(entry.cls, entry.layer);
    entry.streamed = swappable(profile, entry.cls, tier) && crosses(flow, entry.cls, entry.layer);
    if (entry.streamed) entry.tier = tier;
  }
  for (const ClassIndex cls : flow.classes.indices())
    for (const LayerIndex layer : indices<LayerIndex>(flow.layers + 1))
      if (!placed.contains({cls, layer}) && swappable(profile, cls, tier) && crosses(flow, cls, layer))
        placement.classes.push_back({cls, layer, 0, flow.blocks(), 0, tier, true});
  return placement;
}

Placement paged(Placement placement, const Profile& profile, int tier, Paged most, int layers) {
  const Dataflow& flow = profile.flow;
  const auto uses = [](const std::vector<model::Use>& list, ClassIndex cls) {
    return std::ranges::any_of(list, [&](const model::Use& use) { return use.cls == cls; });
  };
  for (const ClassIndex cls : flow.classes.indices()) {
    if (!flow.classes[cls].persistent()) continue;
    Paged kind = Paged::optimizer;
    for (const SegmentIndex s : flow.segments.indices()) {
      if (!flow.layered(s)) continue;
      if (uses(flow.segments[s].forward.reads, cls)) kind = Paged::weights;
      if (uses(flow.segments[s].backward.writes, cls)) kind = Paged::gradients;
    }
    if (kind > most) continue;
    for (const LayerIndex layer : indices<LayerIndex>(layers))
      placement.classes.push_back({cls, layer, 0, 1, 0, tier, true});
  }
  return placement;
}

Placement updated_on_host(Placement placement, const Profile& profile, int tier, int layers, bool page_weights) {
  for (const ClassIndex cls : profile.flow.classes.indices()) {
    if (!profile.flow.classes[cls].persistent()) continue;
    const model::TensorRole role = profile.flow.classes[cls].role;
    const int swapped = role == model::TensorRole::weights && !page_weights ? 0 : 1;
    const bool streamed = swapped == 1 && role != model::TensorRole::optimizer;
    for (const LayerIndex layer : indices<LayerIndex>(layers))
      placement.classes.push_back({cls, layer, 0, swapped, 1 - swapped, tier, streamed});
  }
  return placement;
}

Bytes core_bytes_per_token(const Dataflow& flow) {
  Bytes most;
  for (const model::Segment& segment : flow.segments) {
    if (segment.stage != Stage::core) continue;
    for (const model::Side& side : {segment.forward, segment.backward}) {
      Bytes bytes;
      for (const auto* uses : {&side.reads, &side.writes})
        for (const model::Use& use : *uses) bytes += flow.classes[use.cls].row;
      most = std::max(most, bytes);
    }
  }
  return most;
}

}  // namespace memo::planner
