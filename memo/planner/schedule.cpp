// Lists the calls of a whole step or of layers alone, pass by pass.
#include "memo/planner/schedule.h"

#include <algorithm>

#include "memo/base/check.h"
#include "memo/planner/checkpoints.h"

namespace memo::planner {

PlacementMap::PlacementMap(const model::Dataflow& flow, const std::vector<ClassPlacement>& placement)
    : flow_(flow), layers_(flow.layers + 1) {
  table_.resize(flow.classes.size() * at(layers_));
  for (ClassPlacement& entry : table_) entry.kept = flow.blocks();
  for (const ClassPlacement& given : placement) {
    table_[number(given.cls, given.layer)] = given;
    any_streamed_ = any_streamed_ || given.streamed;
  }
}

PlacementMap::Place PlacementMap::place(ClassIndex cls, LayerIndex layer, BlockIndex block) const {
  const ClassPlacement& of = entry(cls, layer);
  if (block.value() < of.recomputed) return Place::recompute;
  return block.value() < of.recomputed + of.swapped ? Place::swap : Place::keep;
}

namespace {

using model::Stage;

constexpr BlockIndex no_block = BlockIndex::none();

class CallBuilder {
 public:
  CallBuilder(const Profile& profile, const PlacementMap& placement, bool early_updates)
      : profile_(profile), flow_(profile.flow), placement_(placement), early_updates_(early_updates) {}

  Schedule build() {
    flow_.layers_alone() ? layers_alone() : whole_step();
    return std::move(result_);
  }

 private:
  void layers_alone() {
    for (const LayerIndex l : indices<LayerIndex>(flow_.layers)) {
      loop(false, [&](BlockIndex b) { stage(Stage::before, Phase::forward, l, b); });
      core(Phase::forward, l);
      loop(false, [&](BlockIndex b) { stage(Stage::after, Phase::forward, l, b); });
    }
    open(true, false);  // the loss, which others compute
    wait();
    close();
    for (LayerIndex l(flow_.layers - 1); l >= LayerIndex(flow_.forward_layers); --l) {
      rerun_before(l);
      if (core_reruns(l) > 0) core(Phase::rerun, l);
      loop(true, [&](BlockIndex i) { after_backward(l, mirrored(i)); });
      core(Phase::backward, l);
      loop(true, [&](BlockIndex i) { backward(Stage::before, l, mirrored(i)); });
    }
  }

  void whole_step() {
    const LayerIndex first(0), last(flow_.layers - 1);
    for (const LayerIndex l : indices<LayerIndex>(flow_.layers)) {
      loop(false, [&](BlockIndex b) {
        l == first ? stage(Stage::embedding, Phase::forward, first, b) : stage(Stage::after, Phase::forward, l - 1, b);
        stage(Stage::before, Phase::forward, l, b);
      });
      core(Phase::forward, l);
    }
    loop(false, [&](BlockIndex b) {  // the turn
      stage(Stage::after, Phase::forward, last, b);
      stage(Stage::loss, Phase::forward, LayerIndex(flow_.layers), b);
      backward(Stage::after, last, b);
    });
    if (early_updates_) update({{Stage::after, last}});
    core(Phase::backward, last);
    for (LayerIndex l = last; l >= first; --l) {
      const bool grouped = l > first && in_group(l - 1);
      if (grouped && !again(l)) rerun_group(l - 1);
      if (l > first && !grouped && core_reruns(l - 1) > 0) {
        rerun_before(l - 1);
        core(Phase::rerun, l - 1);
      }
      loop(true, [&](BlockIndex i) {
        const BlockIndex b = mirrored(i);
        backward(Stage::before, l, b);
        if (l == first) {
          backward(Stage::embedding, first, b);
        } else {
          after_backward(l - 1, b);
        }
      });
      if (early_updates_ && l > first) update({{Stage::before, l}, {Stage::after, l - 1}});
      if (early_updates_ && l == first) update({{Stage::before, first}});
      if (l > first) {
        if (!grouped && core_reruns(l - 1) == 0) rerun_before(l - 1);
        core(Phase::backward, l - 1);
      }
    }
    if (!early_updates_)
      for (const LayerIndex l : indices<LayerIndex>(flow_.layers))
        for (Stage of : {Stage::before, Stage::after}) update({{of, l}});
    host_updates();
    for (const SegmentIndex s : segments(Stage::optimizer)) alone(s, first);
  }

  // The block that a backward loop comes to in its i-th turn.
  BlockIndex mirrored(BlockIndex i) const { return flow_.last_block() - i.value(); }

  std::vector<SegmentIndex> segments(Stage stage) const {
    std::vector<SegmentIndex> found;
    for (const SegmentIndex s : flow_.segments.indices())
      if (flow_.segments[s].stage == stage) found.push_back(s);
    return found;
  }
  // The segments of the stage for this layer's kind.
  std::vector<SegmentIndex> segments(Stage stage, LayerIndex layer) const {
    std::vector<SegmentIndex> found = segments(stage);
    if (layer < LayerIndex(flow_.layers))
      std::erase_if(found, [&](SegmentIndex s) { return !flow_.in_layer(s, layer); });
    return found;
  }

  // A segment runs again when the placement recomputes any of its outputs of that block.
  bool reruns(SegmentIndex segment, LayerIndex layer, BlockIndex block) const {
    const auto& writes = flow_.segments[segment].forward.writes;
    return std::ranges::any_of(writes, [&](const model::Use& use) {
      return use.layer_shift == 0 && placement_.place(use.cls, layer, block) == PlacementMap::Place::recompute;
    });
  }
  // The number of blocks for which core attention runs again.
  int core_reruns(LayerIndex layer) const {
    int most = 0;
    for (const SegmentIndex s : segments(Stage::core))
      for (const model::Use& use : flow_.segments[s].forward.writes)
        most = std::max(most, placement_.recomputed(use.cls, layer));
    return most;
  }

  void open(bool backward, bool is_core) {
    const CallIndex now = result_.calls.end_index();
    result_.passes.push_back({now, now, is_core, backward, {}});
  }
  void close() {
    Pass& pass = result_.passes.back();
    pass.end = result_.calls.end_index();
    if (pass.iterations.empty()) pass.iterations.push_back(pass.begin);
    if (pass.end == pass.begin) result_.passes.pop_back();
  }
  template <class Body>
  void loop(bool backward, Body body) {
    open(backward, false);
    for (const BlockIndex i : indices<BlockIndex>(flow_.blocks())) {
      result_.passes.back().iterations.push_back(result_.calls.end_index());
      body(i);
    }
    close();
  }

  // Adds one pass that updates the parameters of some stages and layers.
  void update(const std::vector<std::pair<Stage, LayerIndex>>& of) {
    const std::vector<SegmentIndex> updates = segments(Stage::update);
    if (updates.empty()) return;
    open(true, false);
    for (const auto& [stage, layer] : of)
      if (!placement_.host_updates(stage, layer))
        call(updates.at(stage == Stage::before ? 0 : 1), Phase::forward, layer, no_block, -1);
    close();
  }
  // Adds one pass of the updates on the host: at the end also where updates are early, since the host waits for copies
  // of gradients. The last layer first, whose gradients were there first.
  void host_updates() {
    const std::vector<SegmentIndex> updates = segments(Stage::host_update);
    open(true, false);
    for (LayerIndex l(flow_.layers - 1); l >= LayerIndex(0); --l)
      for (const Stage of : {Stage::after, Stage::before})
        if (placement_.host_updates(of, l))
          call(updates.at(of == Stage::before ? 0 : 1), Phase::forward, l, no_block, -1);
    close();
  }
  void alone(SegmentIndex segment, LayerIndex layer) {
    open(true, false);
    call(segment, Phase::forward, layer, no_block, -1);
    close();
  }
  void call(SegmentIndex segment, Phase phase, LayerIndex layer, BlockIndex block, int group) {
    if (placement_.any_streamed() && result_.calls.end_index() == result_.passes.back().begin) wait();
    add(segment, phase, layer, block, group);
  }
  // Adds two calls: earlier tensors are written out after the first, and may be fetched during the second.
  void wait() {
    for (int waits = 0; waits < 2; ++waits)
      add(segments(Stage::wait).at(0), Phase::forward, LayerIndex(0), no_block, -1);
  }
  void add(SegmentIndex segment, Phase phase, LayerIndex layer, BlockIndex block, int group) {
    const bool is_core = flow_.segments[segment].stage == Stage::core;
    const Tokens tokens = !block.exists() ? flow_.context
                          : is_core       ? flow_.block * block.value()
                                          : flow_.block_tokens(block);
    const TraceIndex trace = profile_.trace_of(segment, phase == Phase::backward, tokens);
    result_.calls.push_back({segment, phase, layer, block, group, trace, Bytes(0)});
  }
  void stage(Stage stage, Phase phase, LayerIndex layer, BlockIndex block) {
    for (const SegmentIndex s : segments(stage, layer)) call(s, phase, layer, block, -1);
  }
  void backward(Stage stage, LayerIndex layer, BlockIndex block) {
    const std::vector<SegmentIndex> of_stage = segments(stage, layer);
    for (auto s = of_stage.rbegin(); s != of_stage.rend(); ++s) {
      if (flow_.segments[*s].has_backward()) call(*s, Phase::backward, layer, block, -1);
    }
  }
  void after_backward(LayerIndex layer, BlockIndex block) {
    for (const SegmentIndex s : segments(Stage::after, layer))
      if (reruns(s, layer, block)) call(s, Phase::rerun, layer, block, -1);
    backward(Stage::after, layer, block);
  }
  void core(Phase phase, LayerIndex layer) {
    for (const SegmentIndex s : segments(Stage::core))
      for (int group = 0; group < flow_.groups; ++group) {
        open(phase != Phase::forward, true);
        const int blocks = phase == Phase::rerun ? core_reruns(layer) : flow_.blocks();
        call(s, phase, layer, blocks < flow_.blocks() ? BlockIndex(blocks) : no_block, group);
        close();
      }
  }
  // Whether the layer continues its predecessor's group of one checkpoint (memo/planner/checkpoints.h).
  bool again(LayerIndex layer) const { return input_recomputed(flow_, placement_, layer); }
  bool in_group(LayerIndex layer) const { return again(layer) || again(layer + 1); }
  void rerun_group(LayerIndex last) {
    LayerIndex first = last;
    while (again(first)) --first;
    for (LayerIndex l = first; l <= last; ++l) {
      loop(true, [&](BlockIndex b) {
        if (l > first) stage(Stage::after, Phase::rerun, l - 1, b);
        stage(Stage::before, Phase::rerun, l, b);
      });
      core(Phase::rerun, l);
    }
  }
  void rerun_before(LayerIndex layer) {
    loop(true, [&](BlockIndex b) {
      for (const SegmentIndex s : segments(Stage::before, layer))
        if (reruns(s, layer, b)) call(s, Phase::rerun, layer, b, -1);
    });
  }

  const Profile& profile_;
  const model::Dataflow& flow_;
  const PlacementMap& placement_;
  bool early_updates_;
  Schedule result_;
};

}  // namespace

int pass_of(const Schedule& schedule, CallIndex call) {
  const auto after = std::ranges::upper_bound(schedule.passes, call, {}, &Pass::begin);
  return static_cast<int>(after - schedule.passes.begin()) - 1;
}

Schedule schedule(const Profile& profile, const PlacementMap& placement, bool early_updates) {
  MEMO_CHECK(profile.flow.layers > 0 && profile.flow.blocks() > 0, "a dataflow has layers and blocks");
  return CallBuilder(profile, placement, early_updates).build();
}

}  // namespace memo::planner
