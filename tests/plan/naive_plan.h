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
    const int layers = flow().layers, blocks = flow().blocks();
    for (int b = 0; b < blocks; ++b) stage(Stage::embedding, false, 0, b), stage(Stage::before, false, 0, b);
    for (int l = 0; l < layers; ++l) {
      core(false, l);
      for (int b = 0; b < blocks; ++b) {
        stage(Stage::after, false, l, b);
        if (l + 1 < layers) stage(Stage::before, false, l + 1, b);
        if (l + 1 == layers) stage(Stage::loss, false, loss_layer(), b), stage(Stage::after, true, l, b);
      }
    }
    for (int l = layers - 1; l >= 0; --l) {
      core(true, l);
      for (int b = blocks - 1; b >= 0; --b) {
        stage(Stage::before, true, l, b);
        if (l > 0) stage(Stage::after, true, l - 1, b);
        if (l == 0) stage(Stage::embedding, true, 0, b);
      }
    }
    stage(Stage::optimizer, false, 0, -1);
    place();
    return std::move(plan_);
  }

 private:
  using Key = std::tuple<int, int, int, int>;  // class, layer, group, block: blocks of a sequence are neighbours
  struct Life {
    int begin = 0, end = 0;
  };

  [[nodiscard]] const model::Dataflow& flow() const { return plan_.profile.flow; }

  // The loss reads the last layer's output by a shift from layer L - 1, or as the x of layer L.
  [[nodiscard]] int loss_layer() const {
    for (const model::Segment& s : flow().segments)
      if (s.stage == model::Stage::loss) return flow().layers - s.forward.reads.front().layer_shift;
    return 0;
  }

  void stage(model::Stage stage, bool backward, int layer, int block, int group = -1) {
    const int count = static_cast<int>(flow().segments.size());
    for (int i = 0; i < count; ++i) {
      const int s = backward ? count - 1 - i : i;
      const model::Segment& segment = flow().segments[static_cast<std::size_t>(s)];
      if (segment.stage != stage) continue;
      const model::Side& side = backward ? segment.backward : segment.forward;
      const int k = static_cast<int>(plan_.program.calls.size());
      const Tokens tokens = block < 0 ? flow().context : flow().block_tokens(block);
      plan_.program.calls.push_back({s, backward ? Phase::backward : Phase::forward, layer, block, group,
                                     plan_.profile.trace_of(s, backward, tokens), Bytes(0)});
      for (const model::Use& use : side.reads)
        each(use, layer, block, group, [&](const Key& key) { lives_.at(key).end = k + 1; });
      for (const model::Use& use : side.writes)
        each(use, layer, block, group, [&](const Key& key) { lives_[key] = {k, k + 1}; });
    }
  }

  void core(bool backward, int layer) {
    for (int g = 0; g < flow().groups; ++g) stage(model::Stage::core, backward, layer, -1, g);
  }

  template <class F>
  void each(const model::Use& use, int layer, int block, int group, F f) const {
    const bool grouped = flow().classes[static_cast<std::size_t>(use.cls)].grouped;
    for (int g = 0; g < (grouped ? flow().groups : 1); ++g)
      for (int b = 0; b < flow().blocks(); ++b)
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
        layout.offsets.push_back(request.cls >= 0 ? -1 : layout.bytes.value());
        if (request.cls < 0) layout.bytes += round_up(request.bytes, 64);
      }
      workspace = std::max(workspace, layout.bytes);
      program.transients.push_back(std::move(layout));
    }
    for (Call& call : program.calls) call.workspace = top;
    top += workspace;
    for (const auto& [key, life] : lives_) {
      const auto [cls, layer, group, block] = key;
      const Bytes bytes = flow().classes[static_cast<std::size_t>(cls)].row * flow().block_tokens(block).value();
      program.tensors.push_back({cls, layer, block, group, bytes});
      program.residencies.push_back(
          {static_cast<int>(program.tensors.size()) - 1, life.begin, life.end, top, Origin::produced});
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
