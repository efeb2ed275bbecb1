// Checks that every call of the step is there, once, with the trace that was measured for it.
#include <algorithm>

#include "memo/check/parts.h"

namespace memo::check {
namespace {

using model::Stage;

// Numbers the calls that a step may have: (segment, forward or backward, layer, block or group).
class Step {
 public:
  explicit Step(const model::Dataflow& flow) : flow_(flow) {
    for (int s = 0; s < static_cast<int>(flow.segments.size()); ++s) {
      const model::Segment& segment = flow.segments[static_cast<std::size_t>(s)];
      if (segment.stage == Stage::wait) {
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
  [[nodiscard]] int layers(int segment) const { return flow_.each_layer(segment) ? flow_.layers : 1; }
  [[nodiscard]] std::int64_t number(const Call& call) const {
    const Stage stage = flow_.segments[static_cast<std::size_t>(call.segment)].stage;
    const int layer = flow_.each_layer(call.segment) ? call.layer : 0;
    const int position = over_blocks(stage) ? call.block : std::max(call.group, 0);
    return first_[static_cast<std::size_t>(2 * call.segment + (call.phase == Phase::backward ? 1 : 0))] +
           std::int64_t{layer} * positions(flow_, stage) + position;
  }
  // Whether a step has the call: layers are of kinds, and the first layers may have no backward side.
  [[nodiscard]] bool has(int segment, bool backward, int layer) const {
    if (!flow_.layered(segment)) return true;
    const int kind = flow_.segments[static_cast<std::size_t>(segment)].kind;
    const bool of_layer = kind < 0 || flow_.kinds.empty() || flow_.kinds[static_cast<std::size_t>(layer)] == kind;
    return of_layer && !(backward && layer < flow_.forward_layers);
  }
  [[nodiscard]] bool has(std::int64_t number) const {
    const std::size_t part = part_of(number);
    const int segment = static_cast<int>(part / 2);
    const std::int64_t rest = number - first_[part];
    return has(segment, part % 2 == 1, static_cast<int>(rest / positions(flow_, flow_.segments[part / 2].stage)));
  }
  [[nodiscard]] std::string name(std::int64_t number) const {
    const std::size_t part = part_of(number);
    const model::Segment& segment = flow_.segments[part / 2];
    const std::int64_t rest = number - first_[part];
    const int each = positions(flow_, segment.stage);
    return fmt::format("{} {}, layer {}, {} {}", segment.name, part % 2 == 1 ? "backward" : "forward", rest / each,
                       segment.stage == Stage::core ? "group" : "block", rest % each);
  }

 private:
  [[nodiscard]] std::size_t part_of(std::int64_t number) const {
    return static_cast<std::size_t>(std::upper_bound(first_.begin(), first_.end(), number) - first_.begin() - 1);
  }
  const model::Dataflow& flow_;
  std::vector<std::int64_t> first_;  // per segment: of its forward, of its backward calls
  std::int64_t size_ = 0;
};

// Checks that an update is the last call that uses the parameters of its layer and stage.
class Updated {
 public:
  explicit Updated(const model::Dataflow& flow) : flow_(flow), by_(flow.classes.size()) {
    for (std::vector<int>& layers : by_) layers.assign(static_cast<std::size_t>(flow.layers) + 1, -1);
  }
  // The update before call k that changed what k uses; -1: none.
  int before(const Call& call, int k) {
    const model::Segment& segment = flow_.segments[static_cast<std::size_t>(call.segment)];
    const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
    int found = -1;
    for (const auto* uses : {&side.reads, &side.writes})
      for (const model::Use& use : *uses) {
        if (!flow_.classes[static_cast<std::size_t>(use.cls)].lasting()) continue;
        const auto layer = static_cast<std::size_t>(call.layer + use.layer_shift);
        std::vector<int>& layers = by_[static_cast<std::size_t>(use.cls)];
        if (layer >= layers.size()) continue;  // check_data reports it
        if (layers[layer] >= 0 && layers[layer] != k) found = layers[layer];
        if (segment.stage == Stage::update) layers[layer] = k;
      }
    return found;
  }

 private:
  const model::Dataflow& flow_;
  std::vector<std::vector<int>> by_;  // [class][layer]
};

void check_trace(const Plan& plan, int k, Failures& failures) {
  const model::Dataflow& flow = plan.profile.flow;
  const Call& call = plan.program.calls[static_cast<std::size_t>(k)];
  const Trace& trace = plan.profile.traces[static_cast<std::size_t>(call.trace)];
  const Stage stage = flow.segments[static_cast<std::size_t>(call.segment)].stage;
  const Tokens tokens = over_blocks(stage) ? flow.block_tokens(call.block)
                        : call.block > 0   ? flow.block * call.block
                                           : flow.context;
  if (trace.segment != call.segment || trace.backward != (call.phase == Phase::backward) ||
      (stage != Stage::optimizer && trace.tokens != tokens))
    failures.add("{} of {} tokens has trace {}, which is of {} {} at {} tokens", name_of_call(plan, k), tokens.value(),
                 call.trace, flow.segments[static_cast<std::size_t>(trace.segment)].name,
                 trace.backward ? "backward" : "forward", trace.tokens.value());
}

}  // namespace

void check_calls(const Plan& plan, Failures& failures) {
  const model::Dataflow& flow = plan.profile.flow;
  const std::vector<Call>& calls = plan.program.calls;
  const Step step(flow);
  // This table is not much larger than the plan itself.
  const std::int64_t kinds = flow.kinds.empty() ? 1 : 1 + std::ranges::max(flow.kinds);
  if (step.size() > 2 * kinds * static_cast<std::int64_t>(calls.size()) + 1024) {
    failures.add("a step has at least {} calls, the plan has {}", step.size(), calls.size());
    return;
  }
  std::vector<int> seen(static_cast<std::size_t>(step.size()), -1);
  std::vector<int> layer_of(flow.segments.size(), -1);  // of segments that run once a step
  Updated updated(flow);
  int optimizer = -1, update = -1;
  for (int k = 0; k < static_cast<int>(calls.size()) && !failures.full(); ++k) {
    const Call& call = calls[static_cast<std::size_t>(k)];
    const model::Segment& segment = flow.segments[static_cast<std::size_t>(call.segment)];
    check_trace(plan, k, failures);
    if (segment.stage == Stage::wait) continue;  // as many as the plan likes
    if (segment.stage == Stage::optimizer)
      optimizer = k;
    else if (optimizer >= 0)
      failures.add("{} comes after the optimizer, call {}", name_of_call(plan, k), optimizer);
    else if (segment.stage == Stage::update)
      update = k;
    else if (update >= 0 && plan.sequences > 1)  // there may be a sequence that adds to the gradients
      failures.add("{} comes after an update, call {}", name_of_call(plan, k), update);
    if (const int before = updated.before(call, k); before >= 0)
      failures.add("{} uses what call {} has updated", name_of_call(plan, k), before);
    int& layer = layer_of[static_cast<std::size_t>(call.segment)];
    if (layer < 0) layer = call.layer;
    if (!flow.each_layer(call.segment) && layer != call.layer)
      failures.add("{}: earlier calls of this segment are of layer {}", name_of_call(plan, k), layer);
    if (call.phase == Phase::rerun) {
      // Calls that cannot run again: the loss adds to gradients in its forward side, updates change the weights, and
      // the inputs of layers alone are given once.
      const bool given = flow.layers_alone() && segment.stage == Stage::before && segment.forward.reads.empty();
      if (segment.stage == Stage::loss || updates(plan, k) || given)
        failures.add("{} cannot be run again", name_of_call(plan, k));
      else if (seen[static_cast<std::size_t>(step.number(call))] < 0)
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
    int& first = seen[static_cast<std::size_t>(step.number(call))];
    if (first >= 0) failures.add("{} was made already, as call {}", name_of_call(plan, k), first);
    first = k;
  }
  for (std::size_t n = 0; n < seen.size() && !failures.full(); ++n)
    if (seen[n] < 0 && step.has(static_cast<std::int64_t>(n)))
      failures.add("no call runs {}", step.name(static_cast<std::int64_t>(n)));
}

}  // namespace memo::check
