// The validator's entry, the names it uses, and the checks of totals.
#include <algorithm>
#include <limits>

#include "memo/base/text.h"
#include "memo/check/parts.h"

namespace memo::check {

const char* name_of_phase(Phase phase) {
  return phase == Phase::forward ? "forward" : phase == Phase::backward ? "backward" : "rerun";
}

std::string name_of_call(const Plan& plan, CallIndex call) {
  const Call& c = plan.program.calls[call];
  const model::Segment& segment = plan.profile.flow.segments[c.segment];
  std::string name = fmt::format("call {} ({} {}, layer {}", call, segment.name, name_of_phase(c.phase), c.layer);
  if (c.block.exists()) name += fmt::format(", block {}", c.block);
  if (c.group >= 0) name += fmt::format(", group {}", c.group);
  return name + ")";
}

int positions(const model::Dataflow& flow, model::Stage stage) {
  return over_blocks(stage) ? flow.blocks() : stage == model::Stage::core ? flow.groups : 1;
}

IndexedVector<ResidencyIndex, Boundary> ready_boundaries(const Program& program) {
  IndexedVector<ResidencyIndex, Boundary> ready;
  ready.reserve(program.residencies.size());
  for (const Residency& r : program.residencies)
    ready.push_back(r.origin == Origin::produced  ? r.begin + 1
                    : r.origin == Origin::fetched ? Boundary(std::numeric_limits<int>::max())
                                                  : r.begin);
  for (const Copy& copy : program.copies)
    if (copy.direction == Direction::in && program.residencies[copy.residency].origin == Origin::fetched)
      ready[copy.residency] = copy.before;
  return ready;
}

bool updates(const Plan& plan, CallIndex call) {
  return model::changes_parameters(plan.profile.flow.segments[plan.program.calls[call].segment].stage);
}

CallIndex first_update(const Plan& plan) {
  CallIndex call;
  while (call < plan.program.calls.end_index() && !updates(plan, call)) ++call;
  return call;
}

bool persistent(const Plan& plan, TensorIndex tensor) {
  return plan.profile.flow.classes[plan.program.tensors[tensor].cls].persistent();
}

namespace {

// Predictions may count the bytes of tensors, or those of whole copies.
void check_moved(const Plan& plan, Direction direction, Bytes predicted, Failures& failures) {
  const auto add = [](std::int64_t sum, Bytes more) { return std::min(sum + more.value(), 2 * max_bytes); };
  // Copies and calls that start before the update happen for every sequence.
  const CallIndex update = first_update(plan);
  std::int64_t tensors = 0, copies = 0;
  for (const Copy& copy : plan.program.copies) {
    if (copy.direction != direction) continue;
    const Residency& r = plan.program.residencies[copy.residency];
    const Bytes bytes = plan.program.tensors[r.tensor].bytes;
    const int times = copy.at < update ? plan.sequences : 1;
    tensors = add(tensors, bytes * times);
    copies = add(copies, round_up(bytes, copy_alignment) * times);
  }
  if (predicted.value() != tensors && predicted.value() != copies)
    failures.add("the prediction says {} bytes go {}, the copies move {} of tensors, {} in all", predicted.value(),
                 direction == Direction::out ? "out" : "in", tensors, copies);
}

// Swapped blocks must be written out; streamed blocks that are recomputed may be.
void check_placement(const Plan& plan, Failures& failures) {
  const Program& program = plan.program;
  const model::Dataflow& flow = plan.profile.flow;
  constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
  const IndexedVector<LayerIndex, std::size_t> not_placed(at(flow.layers) + 1, none);
  IndexedVector<ClassIndex, IndexedVector<LayerIndex, std::size_t>> placement_of(flow.classes.size(), not_placed);
  for (std::size_t i = 0; i < plan.placement.size(); ++i) {
    const ClassPlacement& p = plan.placement[i];
    std::size_t& slot = placement_of[p.cls][p.layer];
    if (slot != none) failures.add("{} of layer {} is placed twice", flow.classes[p.cls].name, p.layer);
    slot = i;
  }
  std::vector<std::int64_t> written(plan.placement.size());
  for (const Copy& copy : program.copies) {
    const Residency& residency = program.residencies[copy.residency];
    const TensorIndex id = residency.tensor;
    const bool pages = persistent(plan, id) && residency.origin != Origin::held;
    if (copy.direction != Direction::out && !pages) continue;
    const Tensor& t = program.tensors[id];
    const std::size_t slot = placement_of[t.cls][t.layer];
    if (slot == none) continue;
    const ClassPlacement& p = plan.placement[slot];
    const int block = t.block.value();
    if (block >= p.recomputed && block < p.recomputed + p.swapped && copy.tier == p.tier)
      written[slot] = flow.classes[p.cls].persistent() ? 1 : written[slot] + 1;
    else if (block >= p.recomputed || !p.streamed || copy.tier != p.tier)
      failures.add("{} is written to tier {}, its placement swaps blocks {} to {} to tier {}", name_of_tensor(plan, id),
                   copy.tier, p.recomputed, p.recomputed + p.swapped, p.tier);
    if (failures.full()) return;
  }
  for (const OnTier& it : program.on_tier) {
    const Tensor& t = program.tensors[it.tensor];
    const std::size_t slot = placement_of[t.cls][t.layer];
    if (slot == none || plan.placement[slot].streamed || plan.placement[slot].tier != it.tier)
      failures.add("{} stays on tier {}, its placement says otherwise", name_of_tensor(plan, it.tensor), it.tier);
    else
      written[slot] = 1;
  }
  for (std::size_t i = 0; i < plan.placement.size(); ++i) {
    const ClassPlacement& p = plan.placement[i];
    const model::TensorClass& cls = flow.classes[p.cls];
    const std::int64_t expected = std::int64_t{p.swapped} * (cls.grouped ? flow.groups : 1);
    if (written[i] != expected)
      failures.add("{} of layer {}: {} tensors are placed as swapped, {} move", cls.name, p.layer, expected,
                   written[i]);
  }
}

}  // namespace

void check_sums(const Plan& plan, Failures& failures) {
  const Prediction& p = plan.predicted;
  const Bytes arena = plan.program.arena;
  if (plan.device_limit > Bytes(0) && arena > plan.device_limit)
    failures.add("the arena of {} bytes ({}) is over the device limit of {} bytes ({})", arena.value(),
                 format_bytes(arena), plan.device_limit.value(), format_bytes(plan.device_limit));
  if (p.device_peak != arena)
    failures.add("the prediction says a device peak of {} bytes, the arena has {}", p.device_peak.value(),
                 arena.value());
  if (p.device_lower_bound > arena)
    failures.add("the lower bound of the device peak, {} bytes, is over the arena of {} bytes",
                 p.device_lower_bound.value(), arena.value());
  // A predicted step of 0 means that the plan was not simulated yet.
  if (p.step > Seconds(0) && p.step.value() < p.step_lower_bound.value() * (1 - 1e-9))
    failures.add("the predicted step of {} s is under its own lower bound of {} s", p.step.value(),
                 p.step_lower_bound.value());
  check_moved(plan, Direction::out, p.bytes_out, failures);
  check_moved(plan, Direction::in, p.bytes_in, failures);
  check_placement(plan, failures);
}

std::vector<std::string> validate(const Plan& plan, std::size_t most) {
  Failures failures(most);
  check_structure(plan, failures);
  if (!failures.lines().empty()) return failures.lines();
  for (const auto check :
       {check_calls, check_data, check_copies, check_persistent, check_host_updates, check_space, check_sums})
    if (!failures.full()) check(plan, failures);
  return failures.lines();
}

Status must_hold(const Plan& plan) {
  if (const auto failures = validate(plan, 1); !failures.empty())
    return bad_input("the plan does not hold (memo check lists all failures): " + failures.front());
  return {};
}

}  // namespace memo::check
