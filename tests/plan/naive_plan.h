// The simplest plan of any dataflow: calls in the order of memo/model/dataflow.h, every tensor at an address of its own
// from the call that writes it to the last that reads it. A producer of valid plans, of any size, that owes nothing to
// the planner.
#pragma once

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "memo/plan/plan.h"

namespace memo::plan {

class NaivePlanner {
 public:
  explicit NaivePlanner(const Profile& profile) { plan_.profile = profile; }

  Plan make() {
    plan_.strategy = "resident";
    using model::Stage;
    const LayerIndex first(0), last(flow().layers - 1);
    const auto blocks = indices<BlockIndex>(flow().blocks());
    for (const BlockIndex b : blocks) stage(Stage::embedding, false, first, b), stage(Stage::before, false, first, b);
    for (LayerIndex l = first; l <= last; ++l) {
      core(false, l);
      for (const BlockIndex b : blocks) {
        stage(Stage::after, false, l, b);
        if (l < last) stage(Stage::before, false, l + 1, b);
        if (l == last) stage(Stage::loss, false, loss_layer(), b), stage(Stage::after, true, l, b);
      }
    }
    for (LayerIndex l = last; l >= first; --l) {
      core(true, l);
      for (BlockIndex b(flow().blocks() - 1); b.exists(); --b) {
        stage(Stage::before, true, l, b);
        if (l > first) stage(Stage::after, true, l - 1, b);
        if (l == first) stage(Stage::embedding, true, first, b);
      }
    }
    stage(Stage::optimizer, false, first, BlockIndex::none());
    place();
    return std::move(plan_);
  }

 private:
  using Key = std::tuple<ClassIndex, LayerIndex, int,
                         BlockIndex>;  // class, layer, group, block: blocks of a sequence are neighbours
  struct Life {
    Boundary begin, end;
  };

  [[nodiscard]] const model::Dataflow& flow() const { return plan_.profile.flow; }

  // The loss reads the last layer's output by a shift from layer L - 1, or as the x of layer L.
  [[nodiscard]] LayerIndex loss_layer() const {
    for (const model::Segment& s : flow().segments)
      if (s.stage == model::Stage::loss) return LayerIndex(flow().layers) - s.forward.reads.front().layer_shift;
    return LayerIndex(0);
  }

  void stage(model::Stage stage, bool backward, LayerIndex layer, BlockIndex block, int group = -1) {
    const int count = static_cast<int>(flow().segments.size());
    for (int i = 0; i < count; ++i) {
      const SegmentIndex s(backward ? count - 1 - i : i);
      const model::Segment& segment = flow().segments[s];
      if (segment.stage != stage) continue;
      const model::Side& side = backward ? segment.backward : segment.forward;
      const CallIndex k = plan_.program.calls.end_index();
      const Tokens tokens = !block.exists() ? flow().context : flow().block_tokens(block);
      plan_.program.calls.push_back({s, backward ? Phase::backward : Phase::forward, layer, block, group,
                                     plan_.profile.trace_of(s, backward, tokens), Bytes(0)});
      for (const model::Use& use : side.reads)
        each(use, layer, block, group, [&](const Key& key) { lives_.at(key).end = k + 1; });
      for (const model::Use& use : side.writes)
        each(use, layer, block, group, [&](const Key& key) { lives_[key] = {k, k + 1}; });
    }
  }

  void core(bool backward, LayerIndex layer) {
    for (int g = 0; g < flow().groups; ++g) stage(model::Stage::core, backward, layer, BlockIndex::none(), g);
  }

  template <class F>
  void each(const model::Use& use, LayerIndex layer, BlockIndex block, int group, F f) const {
    const bool grouped = flow().classes[use.cls].grouped;
    for (int g = 0; g < (grouped ? flow().groups : 1); ++g)
      for (const BlockIndex b : indices<BlockIndex>(flow().blocks()))
        if ((!grouped || use.every_group || g == group) && (use.whole_sequence || b == block))
          f(Key{use.cls, layer + use.layer_shift, g, b});
  }

  void place() {
    Program& program = plan_.program;
    Bytes top;
    for (const Fixed& fixed : plan_.profile.fixed) {
      program.fixed.push_back({top, round_up(fixed.bytes, 64)});
      top += program.fixed.back().bytes;
    }
    Bytes workspace;
    for (const Trace& trace : plan_.profile.traces) {  // transients side by side, whatever their lives
      Transients layout;
      for (const Request& request : trace.requests) {
        layout.offsets.push_back(request.cls.exists() ? -1 : layout.bytes.value());
        if (!request.cls.exists()) layout.bytes += round_up(request.bytes, 64);
      }
      workspace = std::max(workspace, layout.bytes);
      program.transients.push_back(std::move(layout));
    }
    for (Call& call : program.calls) call.workspace = top;
    top += workspace;
    for (const auto& [key, life] : lives_) {
      const auto [cls, layer, group, block] = key;
      const Bytes bytes = flow().classes[cls].row * flow().block_tokens(block).value();
      program.tensors.push_back({cls, layer, block, group, bytes});
      program.residencies.push_back({program.tensors.end_index() - 1, life.begin, life.end, top, Origin::produced});
      top += bytes;
    }
    program.arena = top;
    program.tier_bytes.resize(plan_.profile.tiers.size());
    plan_.predicted.device_peak = top;
  }

  Plan plan_;
  std::map<Key, Life> lives_;
};

inline Plan naive_plan(const Profile& profile) { return NaivePlanner(profile).make(); }

}  // namespace memo::plan
