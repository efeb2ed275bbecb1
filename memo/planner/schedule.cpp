// Lists the calls of a whole step or of layers alone, pass by pass.
#include "memo/planner/schedule.h"

#include <algorithm>

#include "memo/base/check.h"
#include "memo/planner/checkpoints.h"

namespace memo::planner {

PlacementMap::PlacementMap(const model::Dataflow& flow, const std::vector<ClassPlacement>& placement)
    : layers_(flow.layers + 1) {
  table_.resize(flow.classes.size() * static_cast<std::size_t>(layers_));
  for (ClassPlacement& entry : table_) entry.kept = flow.blocks();
  for (const ClassPlacement& given : placement) {
    table_[static_cast<std::size_t>(given.cls * layers_ + given.layer)] = given;
    any_streamed_ = any_streamed_ || given.streamed;
  }
}

const ClassPlacement& PlacementMap::at(int cls, int layer) const {
  return table_[static_cast<std::size_t>(cls * layers_ + layer)];
}

PlacementMap::Place PlacementMap::place(int cls, int layer, int block) const {
  const ClassPlacement& entry = at(cls, layer);
  if (block < entry.recomputed) return Place::recompute;
  return block < entry.recomputed + entry.swapped ? Place::swap : Place::keep;
}

namespace {

using model::Stage;

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
    for (int l = 0; l < flow_.layers; ++l) {
      loop(false, [&](int b) { stage(Stage::before, Phase::forward, l, b); });
      core(Phase::forward, l);
      loop(false, [&](int b) { stage(Stage::after, Phase::forward, l, b); });
    }
    open(true, false);  // the loss, which others compute
    wait();
    close();
    for (int l = flow_.layers - 1; l >= flow_.forward_layers; --l) {
      rerun_before(l);
      if (core_reruns(l) > 0) core(Phase::rerun, l);
      loop(true, [&](int i) { after_backward(l, flow_.blocks() - 1 - i); });
      core(Phase::backward, l);
      loop(true, [&](int i) { backward(Stage::before, l, flow_.blocks() - 1 - i); });
    }
  }

  void whole_step() {
    const int last = flow_.layers - 1;
    const int blocks = flow_.blocks();
    for (int l = 0; l <= last; ++l) {
      loop(false, [&](int b) {
        l == 0 ? stage(Stage::embedding, Phase::forward, 0, b) : stage(Stage::after, Phase::forward, l - 1, b);
        stage(Stage::before, Phase::forward, l, b);
      });
      core(Phase::forward, l);
    }
    loop(false, [&](int b) {  // the turn
      stage(Stage::after, Phase::forward, last, b);
      stage(Stage::loss, Phase::forward, flow_.layers, b);
      backward(Stage::after, last, b);
    });
    if (early_updates_) update({{Stage::after, last}});
    core(Phase::backward, last);
    for (int l = last; l >= 0; --l) {
      const bool grouped = l > 0 && in_group(l - 1);
      if (grouped && !again(l)) rerun_group(l - 1);
      if (l > 0 && !grouped && core_reruns(l - 1) > 0) {
        rerun_before(l - 1);
        core(Phase::rerun, l - 1);
      }
      loop(true, [&](int i) {
        const int b = blocks - 1 - i;
        backward(Stage::before, l, b);
        if (l == 0) {
          backward(Stage::embedding, 0, b);
        } else {
          after_backward(l - 1, b);
        }
      });
      if (early_updates_ && l > 0) update({{Stage::before, l}, {Stage::after, l - 1}});
      if (early_updates_ && l == 0) update({{Stage::before, 0}});
      if (l > 0) {
        if (!grouped && core_reruns(l - 1) == 0) rerun_before(l - 1);
        core(Phase::backward, l - 1);
      }
    }
    for (int l = 0; l <= last && !early_updates_; ++l)
      for (Stage of : {Stage::before, Stage::after}) update({{of, l}});
    for (int s : segments(Stage::optimizer)) alone(s, 0);
  }

  std::vector<int> segments(Stage stage) const {
    std::vector<int> found;
    for (std::size_t s = 0; s < flow_.segments.size(); ++s)
      if (flow_.segments[s].stage == stage) found.push_back(static_cast<int>(s));
    return found;
  }
  // The segments of the stage for this layer's kind.
  std::vector<int> segments(Stage stage, int layer) const {
    std::vector<int> found = segments(stage);
    if (layer < flow_.layers) std::erase_if(found, [&](int s) { return !flow_.in_layer(s, layer); });
    return found;
  }

  // A segment runs again when the placement recomputes any of its outputs of that block.
  bool reruns(int segment, int layer, int block) const {
    const auto& writes = flow_.segments[static_cast<std::size_t>(segment)].forward.writes;
    return std::ranges::any_of(writes, [&](const model::Use& use) {
      return use.layer_shift == 0 && placement_.place(use.cls, layer, block) == PlacementMap::Place::recompute;
    });
  }
  // The number of blocks for which core attention runs again.
  int core_reruns(int layer) const {
    int most = 0;
    for (int s : segments(Stage::core))
      for (const model::Use& use : flow_.segments[static_cast<std::size_t>(s)].forward.writes)
        most = std::max(most, placement_.recomputed(use.cls, layer));
    return most;
  }

  void open(bool backward, bool is_core) {
    const int now = static_cast<int>(result_.calls.size());
    result_.passes.push_back({now, now, is_core, backward, {}});
  }
  void close() {
    Pass& pass = result_.passes.back();
    pass.end = static_cast<int>(result_.calls.size());
    if (pass.iterations.empty()) pass.iterations.push_back(pass.begin);
    if (pass.end == pass.begin) result_.passes.pop_back();
  }
  template <class Body>
  void loop(bool backward, Body body) {
    open(backward, false);
    for (int i = 0; i < flow_.blocks(); ++i) {
      result_.passes.back().iterations.push_back(static_cast<int>(result_.calls.size()));
      body(i);
    }
    close();
  }

  // Adds one pass that updates the parameters of some stages and layers.
  void update(const std::vector<std::pair<Stage, int>>& of) {
    const std::vector<int> updates = segments(Stage::update);
    if (updates.empty()) return;
    open(true, false);
    for (const auto& [stage, layer] : of)
      call(updates.at(stage == Stage::before ? 0 : 1), Phase::forward, layer, -1, -1);
    close();
  }
  void alone(int segment, int layer) {
    open(true, false);
    call(segment, Phase::forward, layer, -1, -1);
    close();
  }
  void call(int segment, Phase phase, int layer, int block, int group) {
    if (placement_.any_streamed() && static_cast<int>(result_.calls.size()) == result_.passes.back().begin) wait();
    add(segment, phase, layer, block, group);
  }
  // Adds two calls: earlier tensors are written out after the first, and may be fetched during the second.
  void wait() {
    for (int waits = 0; waits < 2; ++waits) add(segments(Stage::wait).at(0), Phase::forward, 0, -1, -1);
  }
  void add(int segment, Phase phase, int layer, int block, int group) {
    const bool is_core = flow_.segments[static_cast<std::size_t>(segment)].stage == Stage::core;
    const Tokens tokens = block < 0 ? flow_.context : is_core ? flow_.block * block : flow_.block_tokens(block);
    Call call{segment, phase, layer, block, group, 0, Bytes(0)};
    call.trace = profile_.trace_of(segment, phase == Phase::backward, tokens);
    result_.calls.push_back(call);
  }
  void stage(Stage stage, Phase phase, int layer, int block) {
    for (int s : segments(stage, layer)) call(s, phase, layer, block, -1);
  }
  void backward(Stage stage, int layer, int block) {
    const std::vector<int> of_stage = segments(stage, layer);
    for (auto s = of_stage.rbegin(); s != of_stage.rend(); ++s) {
      if (flow_.segments[static_cast<std::size_t>(*s)].has_backward()) call(*s, Phase::backward, layer, block, -1);
    }
  }
  void after_backward(int layer, int block) {
    for (int s : segments(Stage::after, layer))
      if (reruns(s, layer, block)) call(s, Phase::rerun, layer, block, -1);
    backward(Stage::after, layer, block);
  }
  void core(Phase phase, int layer) {
    for (int s : segments(Stage::core))
      for (int group = 0; group < flow_.groups; ++group) {
        open(phase != Phase::forward, true);
        const int blocks = phase == Phase::rerun ? core_reruns(layer) : flow_.blocks();
        call(s, phase, layer, blocks < flow_.blocks() ? blocks : -1, group);
        close();
      }
  }
  // Whether the layer continues its predecessor's group of one checkpoint (memo/planner/checkpoints.h).
  bool again(int layer) const { return input_recomputed(flow_, placement_, layer); }
  bool in_group(int layer) const { return again(layer) || again(layer + 1); }
  void rerun_group(int last) {
    int first = last;
    while (again(first)) --first;
    for (int l = first; l <= last; ++l) {
      loop(true, [&](int b) {
        if (l > first) stage(Stage::after, Phase::rerun, l - 1, b);
        stage(Stage::before, Phase::rerun, l, b);
      });
      core(Phase::rerun, l);
    }
  }
  void rerun_before(int layer) {
    loop(true, [&](int b) {
      for (int s : segments(Stage::before, layer))
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

int pass_of(const Schedule& schedule, int call) {
  const auto after = std::ranges::upper_bound(schedule.passes, call, {}, &Pass::begin);
  return static_cast<int>(after - schedule.passes.begin()) - 1;
}

Schedule schedule(const Profile& profile, const PlacementMap& placement, bool early_updates) {
  MEMO_CHECK(profile.flow.layers > 0 && profile.flow.blocks() > 0, "a dataflow has layers and blocks");
  return CallBuilder(profile, placement, early_updates).build();
}

}  // namespace memo::planner
