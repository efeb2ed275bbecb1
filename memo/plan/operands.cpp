// Numbers instances, expands uses, and finds residencies.
#include "memo/plan/operands.h"

#include <algorithm>

#include "memo/base/check.h"

namespace memo::plan {

Instances::Instances(const model::Dataflow& flow) : flow_(flow) {
  for (const model::TensorClass& cls : flow.classes) {
    first_.push_back(size_);
    size_ += (flow.layers + 1) * (cls.persistent() ? 1 : flow.blocks() * (cls.grouped ? flow.groups : 1));
  }
}

InstanceIndex Instances::of(ClassIndex cls, LayerIndex layer, BlockIndex block, int group) const {
  if (flow_.classes[cls].persistent()) return InstanceIndex(first_[cls] + layer.value());
  const int groups = flow_.classes[cls].grouped ? flow_.groups : 1;
  return InstanceIndex(first_[cls] + (layer.value() * flow_.blocks() + block.value()) * groups + group);
}

Tensor Instances::tensor(InstanceIndex index) const {
  const auto above = std::upper_bound(first_.begin(), first_.end(), index.value());
  Tensor tensor;
  tensor.cls = ClassIndex(static_cast<int>(above - first_.begin()) - 1);
  const model::TensorClass& cls = flow_.classes[tensor.cls];
  const int groups = cls.grouped ? flow_.groups : 1, blocks = flow_.blocks_of(tensor.cls);
  const int rest = index.value() - first_[tensor.cls];
  tensor.group = rest % groups;
  tensor.block = BlockIndex(rest / groups % blocks);
  tensor.layer = LayerIndex(rest / groups / blocks);
  tensor.bytes = flow_.bytes_of(tensor.cls, tensor.block);
  return tensor;
}

namespace {

std::vector<Operand> expand(const std::vector<model::Use>& uses, const model::Dataflow& flow,
                            const Instances& instances, const Call& call) {
  std::vector<Operand> result;
  for (const model::Use& use : uses) {
    const bool grouped = flow.classes[use.cls].grouped;
    const int first = use.every_group || !grouped ? 0 : call.group;
    const int last = use.every_group && grouped ? flow.groups - 1 : first;
    const int blocks = !use.whole_sequence ? 1 : call.block > BlockIndex(0) ? call.block.value() : flow.blocks();
    for (int group = first; group <= last; ++group)
      result.push_back(
          {instances.of(use.cls, call.layer + use.layer_shift, use.whole_sequence ? BlockIndex(0) : call.block, group),
           use.whole_sequence, blocks});
  }
  return result;
}

}  // namespace

CallIndex update_begin(const model::Dataflow& flow, const Program& program) {
  const auto first = std::ranges::find_if(
      program.calls, [&](const Call& call) { return model::changes_parameters(flow.segments[call.segment].stage); });
  return CallIndex(static_cast<int>(first - program.calls.begin()));
}

bool updates_early(const model::Dataflow& flow, const Program& program) {
  const auto after = program.calls.begin() + update_begin(flow, program).value();
  return std::any_of(after, program.calls.end(), [](const Call& call) { return call.phase == Phase::backward; });
}

Operands operands(const model::Dataflow& flow, const Instances& instances, const Call& call) {
  const model::Segment& segment = flow.segments[call.segment];
  const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
  return {expand(side.reads, flow, instances, call), expand(side.writes, flow, instances, call)};
}

Places::Places(const Instances& instances, const Program& program)
    : program_(program), residencies_(at(instances.size())) {
  for (const ResidencyIndex r : program.residencies.indices())
    residencies_[instances.of(program.tensors[program.residencies[r].tensor])].push_back(r);
}

const Residency& Places::of(InstanceIndex tensor, CallIndex call) const {
  for (const ResidencyIndex r : residencies_[tensor]) {
    const Residency& residency = program_.residencies[r];
    if (residency.begin <= call && call < residency.end) return residency;
  }
  MEMO_CHECK(false, "a validated plan holds every operand of a call");
}

std::vector<TierOperand> host_operands(const model::Dataflow& flow, const Program& program, const Call& call) {
  std::vector<TierOperand> operands;
  const auto add = [&](TensorIndex t, int tier, Bytes offset) {
    const model::TensorClass& cls = flow.classes[program.tensors[t].cls];
    const bool of_call = cls.persistent() && program.tensors[t].layer == call.layer &&
                         cls.stage == flow.segments[call.segment].host_updated();
    if (of_call && std::ranges::find(operands, t, &TierOperand::tensor) == operands.end())
      operands.push_back({t, tier, offset, cls.role != model::TensorRole::gradients});
  };
  for (const OnTier& it : program.on_tier) add(it.tensor, it.tier, it.tier_offset);
  for (const Copy& copy : program.copies) add(program.residencies[copy.residency].tensor, copy.tier, copy.tier_offset);
  return operands;
}

}  // namespace memo::plan
