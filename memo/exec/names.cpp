// Words for tensors, calls and copies.
#include "memo/exec/names.h"

#include <fmt/format.h>

namespace memo::exec {
namespace {

std::string place(model::LayerIndex layer, model::BlockIndex block, int group) {
  std::string text = fmt::format("layer {}", layer);
  if (block.exists()) text += fmt::format(", block {}", block);
  if (group >= 0) text += fmt::format(", group {}", group);
  return text;
}

}  // namespace

std::string name_of_tensor(const model::Dataflow& flow, const plan::Tensor& tensor) {
  if (!tensor.cls.within(flow.classes.size()))
    return fmt::format("class {}, {}", tensor.cls, place(tensor.layer, tensor.block, tensor.group));
  const model::TensorClass& cls = flow.classes[tensor.cls];
  return fmt::format("{}, {}", cls.name,
                     place(tensor.layer, cls.persistent() ? model::BlockIndex::none() : tensor.block,
                           cls.grouped ? tensor.group : -1));
}

std::string name_of_call(const model::Dataflow& flow, const plan::Program& program, plan::CallIndex k) {
  const plan::Call& call = program.calls[k];
  const char* phase = call.phase == plan::Phase::forward    ? "forward"
                      : call.phase == plan::Phase::backward ? "backward"
                                                            : "rerun";
  const std::string segment = call.segment.within(flow.segments.size()) ? flow.segments[call.segment].name
                                                                        : fmt::format("segment {}", call.segment);
  return fmt::format("call {} ({} of {}, {})", k, phase, segment, place(call.layer, call.block, call.group));
}

std::string name_of_copy(const model::Dataflow& flow, const plan::Program& program, std::size_t index) {
  const plan::Copy& copy = program.copies[index];
  const plan::Residency& residency = program.residencies[copy.residency];
  return fmt::format("copy {} ({}, {} tier {})", index, name_of_tensor(flow, program.tensors[residency.tensor]),
                     copy.direction == plan::Direction::out ? "out to" : "in from", copy.tier);
}

}  // namespace memo::exec
