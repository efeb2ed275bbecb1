// Operands and requests of each call, read off the plan's residencies and traces.
#include "memo/libtorch/memory/planned_memory.h"

#include <algorithm>

#include "memo/base/check.h"
#include "memo/base/index.h"

namespace memo::libtorch {

PlannedMemory::PlannedMemory(const plan::Plan& plan, std::byte* arena, bool varies)
    : plan_(plan), arena_(arena), varies_(varies) {
  const plan::Program& program = plan.program;
  const model::Dataflow& flow = plan.profile.flow;
  const plan::Instances instances(flow);
  const plan::Places places(instances, program);
  const auto add = [&](const std::vector<plan::Operand>& list, plan::CallIndex call) {
    begin_.push_back(operands_.size());
    for (const plan::Operand& operand : list) {
      const plan::Tensor tensor = instances.tensor(operand.tensor);
      const Tokens tokens = operand.blocks == flow.blocks() ? flow.context
                            : operand.sequence              ? flow.block * operand.blocks
                                                            : flow.block_tokens(tensor.block);
      if (flow.classes[tensor.cls].persistent()) continue;  // where it always is: memo/libtorch/run/session.cpp
      operands_.push_back({operand.tensor, arena_ + places.of(operand.tensor, call).offset.value(),
                           flow.classes[tensor.cls].row * tokens.value(), tokens.value(), tensor.cls, tensor.group});
    }
  };
  for (const plan::CallIndex k : program.calls.indices()) {
    const plan::Operands used = plan::operands(flow, instances, program.calls[k]);
    add(used.reads, k);
    add(used.writes, k);
  }
  begin_.push_back(operands_.size());
}

std::span<const PlannedOperand> PlannedMemory::slice(plan::CallIndex call, int side) const {
  const std::size_t i = 2 * at(call.value()) + at(side);
  return {operands_.data() + begin_[i], begin_[i + 1] - begin_[i]};
}

std::vector<PlannedRequest> PlannedMemory::requests(plan::CallIndex call) const {
  const plan::Call& what = plan_.program.calls[call];
  const plan::Trace& trace = plan_.profile.traces[what.trace];
  const plan::Transients& transients = plan_.program.transients[what.trace];
  const bool at_most = varies_ && plan_.profile.flow.segments[what.segment].stage == model::Stage::core;
  std::vector<PlannedRequest> result;
  result.reserve(trace.requests.size());
  for (std::size_t r = 0; r < trace.requests.size(); ++r) {
    const plan::Request& request = trace.requests[r];
    if (!request.cls.exists()) {
      result.push_back({request.bytes, arena_ + what.workspace.value() + transients.offsets[r], false, at_most});
      continue;
    }
    const int group = what.group >= 0 ? what.group : request.group;
    const auto written = writes(call);
    const auto found = std::ranges::find_if(
        written, [&](const PlannedOperand& o) { return o.cls == request.cls && o.group == group; });
    MEMO_CHECK(found != written.end(), "a request for a planned tensor is one of the call's writes");
    result.push_back({request.bytes, found->address, true});
  }
  return result;
}

}  // namespace memo::libtorch
