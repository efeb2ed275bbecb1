// Roles of classes and segments, which version 3 of a profile says by their names alone: the one place where names
// decide.
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "memo/plan/profile_json.h"

namespace memo::plan {

using model::SegmentRole, model::Stage, model::TensorRole;

void take_roles(model::Dataflow& flow) {
  static const std::map<std::string_view, TensorRole> of_classes{
      {"x", TensorRole::hidden},           {"qkv", TensorRole::qkv},
      {"o", TensorRole::attention_output}, {"lse", TensorRole::log_sum_exp},
      {"x1", TensorRole::residual},        {"h", TensorRole::mlp_inner},
      {"d", TensorRole::d_hidden},         {"d1", TensorRole::d_residual},
      {"dh", TensorRole::d_mlp_inner},     {"do", TensorRole::d_attention_output},
      {"dq", TensorRole::d_query},         {"dk", TensorRole::d_key},
      {"dv", TensorRole::d_value}};
  static const std::map<std::string_view, std::pair<TensorRole, Stage>> of_persistent{
      {"weights.before", {TensorRole::weights, Stage::before}},
      {"weights.after", {TensorRole::weights, Stage::after}},
      {"gradients.before", {TensorRole::gradients, Stage::before}},
      {"gradients.after", {TensorRole::gradients, Stage::after}},
      {"optimizer.before", {TensorRole::optimizer, Stage::before}},
      {"optimizer.after", {TensorRole::optimizer, Stage::after}}};
  static const std::map<std::string_view, SegmentRole> of_segments{
      {"embedding", SegmentRole::embedding},
      {"attn_in", SegmentRole::attn_in},
      {"attention", SegmentRole::attention},
      {"attn_out", SegmentRole::attn_out},
      {"mlp_in", SegmentRole::mlp_in},
      {"mlp_out", SegmentRole::mlp_out},
      {"loss", SegmentRole::loss},
      {"update.before", SegmentRole::update_before},
      {"update.after", SegmentRole::update_after},
      {"optimizer", SegmentRole::optimizer},
      {"host_update.before", SegmentRole::host_update_before},
      {"host_update.after", SegmentRole::host_update_after},
      {"wait", SegmentRole::wait},
      {"input", SegmentRole::input},
      {"before", SegmentRole::before},
      {"after", SegmentRole::after}};
  for (model::TensorClass& cls : flow.classes) {
    const std::string_view name = cls.name;
    if (name.find(".saved") != std::string_view::npos) {  // "attn_in.saved0"
      cls.role = TensorRole::saved;
    } else if (cls.persistent()) {
      if (const auto found = of_persistent.find(name); found != of_persistent.end())
        std::tie(cls.role, cls.stage) = found->second;
    } else if (const auto found = of_classes.find(name); found != of_classes.end()) {
      cls.role = found->second;
    }
  }
  for (model::Segment& segment : flow.segments) {
    const std::string_view name = segment.name;
    const auto found = of_segments.find(name.substr(0, name.find(" (kind ")));  // "before (kind 1)"
    if (found != of_segments.end()) segment.role = found->second;
  }
}

}  // namespace memo::plan
