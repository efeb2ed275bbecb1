// Numbers instances, expands uses, and finds residencies.
#include "memo/plan/operands.h"

#include <algorithm>

#include "memo/base/check.h"

namespace memo::plan {

TensorIndex::TensorIndex(const model::Dataflow& flow) : flow_(flow) {
  for (const model::TensorClass& cls : flow.classes) {
    first_.push_back(size_);
    size_ += (flow.layers + 1) * (cls.lasting() ? 1 : flow.blocks() * (cls.grouped ? flow.groups : 1));
  }
}

int TensorIndex::of(int cls, int layer, int block, int group) const {
  const auto c = static_cast<std::size_t>(cls);
  if (flow_.classes[c].lasting()) return first_[c] + layer;
  const int groups = flow_.classes[c].grouped ? flow_.groups : 1;
  return first_[c] + (layer * flow_.blocks() + block) * groups + group;
}

Tensor TensorIndex::tensor(int index) const {
  const auto above = std::upper_bound(first_.begin(), first_.end(), index);
  const auto c = static_cast<std::size_t>(above - first_.begin()) - 1;
  const model::TensorClass& cls = flow_.classes[c];
  const int groups = cls.grouped ? flow_.groups : 1;
  const int rest = index - first_[c];
  Tensor tensor;
  tensor.cls = static_cast<int>(c);
  tensor.group = rest % groups;
  tensor.block = rest / groups % flow_.blocks_of(tensor.cls);
  tensor.layer = rest / groups / flow_.blocks_of(tensor.cls);
  tensor.bytes = flow_.bytes_of(tensor.cls, tensor.block);
  return tensor;
}

namespace {

std::vector<Operand> expand(const std::vector<model::Use>& uses, const model::Dataflow& flow, const TensorIndex& index,
                            const Call& call) {
  std::vector<Operand> result;
  for (const model::Use& use : uses) {
    const bool grouped = flow.classes[static_cast<std::size_t>(use.cls)].grouped;
    const int first = use.every_group || !grouped ? 0 : call.group;
    const int last = use.every_group && grouped ? flow.groups - 1 : first;
    const int blocks = !use.whole_sequence ? 1 : call.block > 0 ? call.block : flow.blocks();
    for (int group = first; group <= last; ++group)
      result.push_back({index.of(use.cls, call.layer + use.layer_shift, use.whole_sequence ? 0 : call.block, group),
                        use.whole_sequence, blocks});
  }
  return result;
}

}  // namespace

int update_begin(const model::Dataflow& flow, const Program& program) {
  const auto first = std::ranges::find_if(program.calls, [&](const Call& call) {
    const model::Stage stage = flow.segments[static_cast<std::size_t>(call.segment)].stage;
    return stage == model::Stage::update || stage == model::Stage::optimizer;
  });
  return static_cast<int>(first - program.calls.begin());
}

bool updates_early(const model::Dataflow& flow, const Program& program) {
  const auto after = program.calls.begin() + update_begin(flow, program);
  return std::any_of(after, program.calls.end(), [](const Call& call) { return call.phase == Phase::backward; });
}

Operands operands(const model::Dataflow& flow, const TensorIndex& index, const Call& call) {
  const model::Segment& segment = flow.segments[static_cast<std::size_t>(call.segment)];
  const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
  return {expand(side.reads, flow, index, call), expand(side.writes, flow, index, call)};
}

Places::Places(const TensorIndex& index, const Program& program)
    : program_(program), residencies_(static_cast<std::size_t>(index.size())) {
  for (std::size_t r = 0; r < program.residencies.size(); ++r) {
    const Tensor& tensor = program.tensors[static_cast<std::size_t>(program.residencies[r].tensor)];
    const int number = index.of(tensor.cls, tensor.layer, tensor.block, tensor.group);
    residencies_[static_cast<std::size_t>(number)].push_back(static_cast<int>(r));
  }
}

const Residency& Places::of(int tensor, int call) const {
  for (const int r : residencies_[static_cast<std::size_t>(tensor)]) {
    const Residency& residency = program_.residencies[static_cast<std::size_t>(r)];
    if (residency.begin <= call && call < residency.end) return residency;
  }
  MEMO_CHECK(false, "a validated plan holds every operand of a call");
}

}  // namespace memo::plan
