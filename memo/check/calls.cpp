// Checks that every call of the step is there, once, with the trace that was measured for it.
#include <algorithm>

#include "memo/check/parts.h"

namespace memo::check {
namespace {

using model::Stage;

// Numbers the calls that a step may have: (segment, forward or backward, layer, block or group). An update on the host
// has the number of the update in whose place it is.
class Step {
 public:
  explicit Step(const model::Dataflow& flow) : flow_(flow) {
    for (const SegmentIndex s : flow.segments.indices()) {
      const model::Segment& segment = flow.segments[s];
      if (segment.stage == Stage::wait || segment.stage == Stage::host_update) {
        first_.push_back(size_), first_.push_back(size_);
        continue;
      }
      const std::int64_t calls = std::int64_t{layers(s)} * positions(flow, segment.stage);
      for (const bool backward : {false, true}) {
        first_.push_back(size_);
        if (!backward || has_backward(segment)) size_ += calls;
      }
    }
  }
  [[nodiscard]] std::int64_t size() const { return size_; }
  [[nodiscard]] int layers(SegmentIndex segment) const { return flow_.each_layer(segment) ? flow_.layers : 1; }
  [[nodiscard]] std::int64_t number(const Call& call) const {
    const Stage stage = flow_.segments[call.segment].stage;
    const int layer = flow_.each_layer(call.segment) ? call.layer.value() : 0;
    const int position = over_blocks(stage) ? call.block.value() : std::max(call.group, 0);
    const SegmentIndex segment = in_place_of(call.segment);
    return first_[at(2 * segment.value() + (call.phase == Phase::backward ? 1 : 0))] +
           std::int64_t{layer} * positions(flow_, stage) + position;
  }
  // The update for which an update on the host stands; other segments stand for themselves.
  [[nodiscard]] SegmentIndex in_place_of(SegmentIndex segment) const {
    const model::Segment& s = flow_.segments[segment];
    return s.stage == Stage::host_update ? flow_.find_segment(model::in_place_of(s.role)) : segment;
  }
  // Whether a step has the call: layers are of kinds, and the first layers may have no backward side.
  [[nodiscard]] bool has(SegmentIndex segment, bool backward, LayerIndex layer) const {
    if (!flow_.layered(segment)) return true;
    const int kind = flow_.segments[segment].kind;
    const bool of_layer = kind < 0 || flow_.kinds.empty() || flow_.kinds[layer] == kind;
    return of_layer && !(backward && layer < LayerIndex(flow_.forward_layers));
  }
  [[nodiscard]] bool has(std::int64_t number) const {
    const auto [segment, backward, rest] = part_of(number);
    const std::int64_t layer = rest / positions(flow_, flow_.segments[segment].stage);
    return has(segment, backward, LayerIndex(static_cast<int>(layer)));
  }
  [[nodiscard]] std::string name(std::int64_t number) const {
    const auto [s, backward, rest] = part_of(number);
    const model::Segment& segment = flow_.segments[s];
    const int each = positions(flow_, segment.stage);
    return fmt::format("{} {}, layer {}, {} {}", segment.name, backward ? "backward" : "forward", rest / each,
                       segment.stage == Stage::core ? "group" : "block", rest % each);
  }

 private:
  struct Part {
    SegmentIndex segment;
    bool backward;
    std::int64_t rest;  // the call's number among those of its segment's side
  };
  [[nodiscard]] Part part_of(std::int64_t number) const {
    const auto part = std::upper_bound(first_.begin(), first_.end(), number) - first_.begin() - 1;
    return {SegmentIndex(static_cast<int>(part / 2)), part % 2 == 1, number - first_[static_cast<std::size_t>(part)]};
  }
  const model::Dataflow& flow_;
  std::vector<std::int64_t> first_;  // per segment: of its forward, of its backward calls
  std::int64_t size_ = 0;
};

// Checks that an update is the last call that uses the parameters of its layer and stage.
class Updated {
 public:
  explicit Updated(const model::Dataflow& flow)
      : flow_(flow), by_(flow.classes.size(), Layers(at(flow.layers) + 1, CallIndex::none())) {}
  // The update before call k that changed what k uses, or none.
  CallIndex before(const Call& call, CallIndex k) {
    const model::Segment& segment = flow_.segments[call.segment];
    const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
    CallIndex found = CallIndex::none();
    const auto uses = [&](ClassIndex cls, LayerIndex layer) {
      Layers& layers = by_[cls];
      if (!flow_.classes[cls].persistent() || !layer.within(layers.size())) return;  // check_data reports it
      if (layers[layer].exists() && layers[layer] != k) found = layers[layer];
      if (segment.stage == Stage::update || segment.stage == Stage::host_update) layers[layer] = k;
    };
    for (const auto* list : {&side.reads, &side.writes})
      for (const model::Use& use : *list) uses(use.cls, call.layer + use.layer_shift);
    if (segment.stage == Stage::host_update)
      for (const ClassIndex cls : flow_.classes.indices())
        if (flow_.classes[cls].stage == segment.host_updated()) uses(cls, call.layer);
    return found;
  }

 private:
  using Layers = IndexedVector<LayerIndex, CallIndex>;
  const model::Dataflow& flow_;
  IndexedVector<ClassIndex, Layers> by_;
};

void check_trace(const Plan& plan, CallIndex k, Failures& failures) {
  const model::Dataflow& flow = plan.profile.flow;
  const Call& call = plan.program.calls[k];
  const Trace& trace = plan.profile.traces[call.trace];
  const Stage stage = flow.segments[call.segment].stage;
  const Tokens tokens = over_blocks(stage)           ? flow.block_tokens(call.block)
                        : call.block > BlockIndex(0) ? flow.block * call.block.value()
                                                     : flow.context;
  if (trace.segment != call.segment || trace.backward != (call.phase == Phase::backward) ||
      (stage != Stage::optimizer && trace.tokens != tokens))
    failures.add("{} of {} tokens has trace {}, which is of {} {} at {} tokens", name_of_call(plan, k), tokens.value(),
                 call.trace, flow.segments[trace.segment].name, trace.backward ? "backward" : "forward",
                 trace.tokens.value());
}

}  // namespace

void check_calls(const Plan& plan, Failures& failures) {
  const model::Dataflow& flow = plan.profile.flow;
  const IndexedVector<CallIndex, Call>& calls = plan.program.calls;
  const Step step(flow);
  // This table is not much larger than the plan itself.
  const std::int64_t kinds = flow.kinds.empty() ? 1 : 1 + std::ranges::max(flow.kinds);
  if (step.size() > 2 * kinds * static_cast<std::int64_t>(calls.size()) + 1024) {
    failures.add("a step has at least {} calls, the plan has {}", step.size(), calls.size());
    return;
  }
  std::vector<CallIndex> seen(static_cast<std::size_t>(step.size()), CallIndex::none());
  IndexedVector<SegmentIndex, LayerIndex> layer_of(flow.segments.size(),
                                                   LayerIndex::none());  // of segments that run once a step
  Updated updated(flow);
  CallIndex optimizer = CallIndex::none(), update = CallIndex::none();
  for (const CallIndex k : calls.indices()) {
    if (failures.full()) break;
    const Call& call = calls[k];
    const model::Segment& segment = flow.segments[call.segment];
    check_trace(plan, k, failures);
    if (segment.stage == Stage::wait) continue;  // as many as the plan likes
    if (segment.stage == Stage::optimizer)
      optimizer = k;
    else if (optimizer.exists())
      failures.add("{} comes after the optimizer, call {}", name_of_call(plan, k), optimizer);
    else if (updates(plan, k))
      update = k;
    else if (update.exists() && plan.sequences > 1)  // there may be a sequence that adds to the gradients
      failures.add("{} comes after an update, call {}", name_of_call(plan, k), update);
    if (const CallIndex before = updated.before(call, k); before.exists())
      failures.add("{} uses what call {} has updated", name_of_call(plan, k), before);
    LayerIndex& layer = layer_of[call.segment];
    if (!layer.exists()) layer = call.layer;
    if (!flow.each_layer(call.segment) && layer != call.layer)
      failures.add("{}: earlier calls of this segment are of layer {}", name_of_call(plan, k), layer);
    if (call.phase == Phase::rerun) {
      // Calls that cannot run again: the loss adds to gradients in its forward side, updates change the weights, and
      // the inputs of layers alone are given once.
      const bool given = flow.layers_alone() && segment.stage == Stage::before && segment.forward.reads.empty();
      if (segment.stage == Stage::loss || updates(plan, k) || given)
        failures.add("{} cannot be run again", name_of_call(plan, k));
      else if (!seen[static_cast<std::size_t>(step.number(call))].exists())
        failures.add("{} runs again before its forward call", name_of_call(plan, k));
      continue;
    }
    if (!step.has(call.segment, call.phase == Phase::backward, call.layer)) {
      failures.add("{}: its layer has no such call", name_of_call(plan, k));
      continue;
    }
    if (call.phase == Phase::backward && !has_backward(segment)) {
      failures.add("{}: the segment has no backward side", name_of_call(plan, k));
      continue;
    }
    CallIndex& first = seen[static_cast<std::size_t>(step.number(call))];
    if (first.exists()) failures.add("{} was made already, as call {}", name_of_call(plan, k), first);
    first = k;
  }
  for (std::size_t n = 0; n < seen.size() && !failures.full(); ++n)
    if (!seen[n].exists() && step.has(static_cast<std::int64_t>(n)))
      failures.add("no call runs {}", step.name(static_cast<std::int64_t>(n)));
}

}  // namespace memo::check
