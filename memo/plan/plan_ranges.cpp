// Checks the ranges of all numbers in a plan: afterwards indices may be followed, and small sums of bytes cannot
// overflow.
#include <cmath>
#include <limits>

#include "memo/plan/ranges.h"

namespace memo::plan {

std::string name_of_instance(const model::Dataflow& flow, ClassIndex cls, LayerIndex layer, BlockIndex block,
                             int group) {
  const model::TensorClass& c = flow.classes[cls];
  std::string name = fmt::format("{} of layer {}, block {}", c.name, layer, block);
  return c.grouped ? name + fmt::format(", group {}", group) : name;
}

std::string name_of_tensor(const Plan& plan, TensorIndex tensor) {
  const Tensor& t = plan.program.tensors[tensor];
  return name_of_instance(plan.profile.flow, t.cls, t.layer, t.block, t.group);
}
namespace {

bool in_tiers(const Plan& plan, int tier) { return tier >= 0 && at(tier) < plan.profile.tiers.size(); }
// Of the layers of a whole step, the one behind the last too.
bool in_layers(const model::Dataflow& flow, LayerIndex layer) { return layer.within(at(flow.layers) + 1); }

void check_program_sizes(const Plan& plan, Failures& failures) {
  const Program& program = plan.program;
  const auto equal = [&](const char* what, std::size_t size, const char* of, std::size_t expected) {
    if (size != expected) failures.add("{} {} for {} {}", size, what, expected, of);
  };
  equal("fixed regions", program.fixed.size(), "pieces of fixed memory", plan.profile.fixed.size());
  equal("transient layouts", program.transients.size(), "traces", plan.profile.traces.size());
  equal("numbers of used bytes", program.tier_bytes.size(), "tiers", plan.profile.tiers.size());
  for (const std::size_t size : {program.calls.size(), program.tensors.size(), program.residencies.size(),
                                 program.copies.size(), program.on_tier.size(), plan.placement.size()})
    if (size > std::numeric_limits<int>::max() / 4) failures.add("{} rows in one table are too many", size);
  if (!in_bytes(program.arena)) failures.add("an arena of {} bytes", program.arena.value());
  if (!in_bytes(plan.device_limit)) failures.add("a device limit of {} bytes", plan.device_limit.value());
  if (plan.slots < 0) failures.add("{} staging slots", plan.slots);
  if (plan.sequences < 1 || plan.sequences > 1 << 20) failures.add("{} sequences a step", plan.sequences);
  for (const Bytes bytes : program.tier_bytes)
    if (!in_bytes(bytes)) failures.add("{} bytes used of a tier", bytes.value());
  for (const Region& region : program.fixed)
    if (!in_bytes(region.offset) || !in_bytes(region.bytes))
      failures.add("a fixed region of {} bytes at offset {}", region.bytes.value(), region.offset.value());
  for (const Transients& t : program.transients)
    if (!in_bytes(t.bytes)) failures.add("a workspace of {} bytes", t.bytes.value());
}

void check_prediction(const Prediction& p, Failures& failures) {
  for (const double value : {p.step.value(), p.stall.value(), p.step_lower_bound.value(), p.placement_gap})
    if (!std::isfinite(value) || value < 0) failures.add("the prediction has {} as a time or gap", value);
  for (const Bytes bytes : {p.device_peak, p.device_lower_bound, p.bytes_out, p.bytes_in})
    if (!in_bytes(bytes)) failures.add("the prediction has {} as a number of bytes", bytes.value());
}

void check_placements(const Plan& plan, Failures& failures) {
  const model::Dataflow& flow = plan.profile.flow;
  for (std::size_t i = 0; i < plan.placement.size() && !failures.full(); ++i) {
    const ClassPlacement& p = plan.placement[i];
    if (!p.cls.within(flow.classes.size()) || !in_layers(flow, p.layer))
      failures.add("placement {} is of class {}, layer {}; there are {} classes, {} layers", i, p.cls, p.layer,
                   flow.classes.size(), flow.layers);
    else if (p.swapped < 0 || p.recomputed < 0 || p.kept < 0 ||
             std::int64_t{p.swapped} + p.recomputed + p.kept != flow.blocks_of(p.cls))
      failures.add("{} of layer {}: {} recomputed + {} swapped + {} kept blocks are not {}", flow.classes[p.cls].name,
                   p.layer, p.recomputed, p.swapped, p.kept, flow.blocks_of(p.cls));
    else if (flow.classes[p.cls].persistent() && p.recomputed > 0)
      failures.add("{} of layer {} cannot be computed again", flow.classes[p.cls].name, p.layer);
    else if (p.swapped > 0 && !in_tiers(plan, p.tier))
      failures.add("{} of layer {} is swapped to tier {} of {}", flow.classes[p.cls].name, p.layer, p.tier,
                   plan.profile.tiers.size());
  }
}

void check_call(const Plan& plan, CallIndex k, Failures& failures) {
  const model::Dataflow& flow = plan.profile.flow;
  const Call& call = plan.program.calls[k];
  if (!call.segment.within(flow.segments.size())) {
    failures.add("call {} is of segment {} of {}", k, call.segment, flow.segments.size());
    return;
  }
  const model::Segment& segment = flow.segments[call.segment];
  const bool blocks = over_blocks(segment.stage), groups = segment.stage == model::Stage::core;
  if (call.phase < Phase::forward || call.phase > Phase::rerun)
    failures.add("call {} ({}) has phase {}", k, segment.name, static_cast<int>(call.phase));
  // Segments that run once a step have the layer of their operands: 0 for the embedding, up to L for the loss.
  if (!call.layer.within(at(flow.layers) + (flow.each_layer(call.segment) ? 0 : 1)))
    failures.add("call {} ({}) is of layer {} of {}", k, segment.name, call.layer, flow.layers);
  const bool some = groups && call.phase == Phase::rerun && call.block > BlockIndex(0);  // of a sequence's blocks
  if (blocks || some ? !call.block.within(at(flow.blocks())) : call.block != BlockIndex::none())
    failures.add("call {} ({}) is of block {}; {} blocks, -1 for none", k, segment.name, call.block, flow.blocks());
  if (groups ? call.group < 0 || call.group >= flow.groups : call.group != -1)
    failures.add("call {} ({}) is of group {}; {} groups, -1 for none", k, segment.name, call.group, flow.groups);
  if (!call.trace.within(plan.profile.traces.size()))
    failures.add("call {} ({}) has trace {} of {}", k, segment.name, call.trace, plan.profile.traces.size());
  if (!in_bytes(call.workspace))
    failures.add("call {} ({}) has its workspace at {}", k, segment.name, call.workspace.value());
}

void check_tensor(const Plan& plan, TensorIndex id, Failures& failures) {
  const model::Dataflow& flow = plan.profile.flow;
  const Tensor& t = plan.program.tensors[id];
  if (!t.cls.within(flow.classes.size())) {
    failures.add("tensor {} is of class {} of {}", id, t.cls, flow.classes.size());
    return;
  }
  const model::TensorClass& cls = flow.classes[t.cls];
  if (!in_layers(flow, t.layer) || !t.block.within(at(flow.blocks_of(t.cls))) || t.group < 0 ||
      t.group >= (cls.grouped ? flow.groups : 1)) {
    failures.add("tensor {} is {} of layer {}, block {}, group {}; there are {} layers, {} blocks, {} group(s)", id,
                 cls.name, t.layer, t.block, t.group, flow.layers, flow.blocks_of(t.cls),
                 cls.grouped ? flow.groups : 1);
    return;
  }
  const Bytes bytes = flow.bytes_of(t.cls, t.block);
  if (t.bytes != bytes)
    failures.add("tensor {}, {}, has {} bytes instead of {}", id, name_of_tensor(plan, id), t.bytes.value(),
                 bytes.value());
}

void check_residency(const Plan& plan, ResidencyIndex id, Failures& failures) {
  const Program& program = plan.program;
  const Residency& r = program.residencies[id];
  if (!r.tensor.within(program.tensors.size()))
    failures.add("residency {} is of tensor {} of {}", id, r.tensor, program.tensors.size());
  else if (!r.begin.exists() || r.begin >= r.end || r.end > program.calls.end_index())
    failures.add("residency {} of {} is from boundary {} to {} of {}", id, name_of_tensor(plan, r.tensor), r.begin,
                 r.end, program.calls.size());
  else if (!in_bytes(r.offset))
    failures.add("residency {} of {} lies at {}", id, name_of_tensor(plan, r.tensor), r.offset.value());
  else if (r.origin < Origin::produced || r.origin > Origin::zeroed)
    failures.add("residency {} of {} has origin {}", id, name_of_tensor(plan, r.tensor), static_cast<int>(r.origin));
}

void check_copy(const Plan& plan, std::size_t id, Failures& failures) {
  const Program& program = plan.program;
  const Copy& copy = program.copies[id];
  if (!copy.residency.within(program.residencies.size())) {
    failures.add("copy {} is of residency {} of {}", id, copy.residency, program.residencies.size());
    return;
  }
  const std::string name = name_of_tensor(plan, program.residencies[copy.residency].tensor);
  if (copy.direction != Direction::out && copy.direction != Direction::in)
    failures.add("copy {} of {} has direction {}", id, name, static_cast<int>(copy.direction));
  if (!in_tiers(plan, copy.tier))
    failures.add("copy {} of {} is to tier {} of {}", id, name, copy.tier, plan.profile.tiers.size());
  if (!in_bytes(copy.tier_offset))
    failures.add("copy {} of {} is at tier offset {}", id, name, copy.tier_offset.value());
  if (!copy.at.exists() || copy.at >= copy.before || copy.before > program.calls.end_index())
    failures.add("copy {} of {} runs from boundary {} to {} of {}", id, name, copy.at, copy.before,
                 program.calls.size());
}

void check_on_tier(const Plan& plan, std::size_t id, Failures& failures) {
  const OnTier& it = plan.program.on_tier[id];
  if (!it.tensor.within(plan.program.tensors.size()))
    failures.add("row {} of on_tier is of tensor {} of {}", id, it.tensor, plan.program.tensors.size());
  else if (!in_tiers(plan, it.tier) || !in_bytes(it.tier_offset))
    failures.add("{} is on tier {} of {}, at {}", name_of_tensor(plan, it.tensor), it.tier, plan.profile.tiers.size(),
                 it.tier_offset.value());
}

template <class I>
void check_each(std::size_t size, const Plan& plan, Failures& failures, void (*check)(const Plan&, I, Failures&)) {
  for (I i{}; i < I(size) && !failures.full(); ++i) check(plan, i, failures);
}

}  // namespace

void check_structure(const Plan& plan, Failures& failures) {
  check_profile(plan.profile, failures);
  if (!failures.lines().empty()) return;
  check_program_sizes(plan, failures);
  check_prediction(plan.predicted, failures);
  check_placements(plan, failures);
  if (!failures.lines().empty()) return;
  check_each(plan.program.calls.size(), plan, failures, check_call);
  check_each(plan.program.tensors.size(), plan, failures, check_tensor);
  if (!failures.lines().empty()) return;
  check_each(plan.program.residencies.size(), plan, failures, check_residency);
  if (failures.lines().empty()) check_each(plan.program.copies.size(), plan, failures, check_copy);
  if (failures.lines().empty()) check_each(plan.program.on_tier.size(), plan, failures, check_on_tier);
}

}  // namespace memo::plan
