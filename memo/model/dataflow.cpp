// The tables of a decoder and of layers alone, and look-ups in a table.
#include "memo/model/dataflow.h"

#include <algorithm>
#include <utility>

#include "memo/model/parameters.h"
#include "memo/model/shape.h"

namespace memo::model {
namespace {

template <class I, class T, class Is>
I find_first(const IndexedVector<I, T>& list, Is is) {
  const auto found = std::ranges::find_if(list.indices(), [&](I i) { return is(list[i]); });
  return found == list.indices().end() ? I::none() : *found;
}

Use block_of(ClassIndex cls, int layer_shift = 0) { return {cls, layer_shift, false, false}; }
Use groups_of(ClassIndex cls) { return {cls, 0, false, true}; }
Use sequence_of(ClassIndex cls) { return {cls, 0, true, false}; }

ClassIndex add(Dataflow& flow, TensorClass cls) {
  flow.classes.push_back(std::move(cls));
  return flow.classes.end_index() - 1;
}

// Of one head group.
Segment core_attention(ClassIndex qkv, ClassIndex o, ClassIndex lse, ClassIndex d_o, ClassIndex dq, ClassIndex dk,
                       ClassIndex dv) {
  return {"attention",
          SegmentRole::attention,
          Stage::core,
          {{sequence_of(qkv)}, {sequence_of(o), sequence_of(lse)}},
          {{sequence_of(d_o), sequence_of(qkv), sequence_of(o), sequence_of(lse)},
           {sequence_of(dq), sequence_of(dk), sequence_of(dv)}}};
}

}  // namespace

std::vector<int> Dataflow::prefixes() const {
  constexpr int parts = 8;
  std::vector<int> result;
  for (int part = 1; part < parts; ++part)
    if (const int n = blocks() * part / parts; n > 0 && (result.empty() || result.back() < n)) result.push_back(n);
  return result;
}

Element TensorClass::element() const {
  switch (role) {
    case TensorRole::log_sum_exp:
    case TensorRole::gradients:
    case TensorRole::optimizer:
      return Element::float32;
    case TensorRole::saved:
      return Element::bytes;
    default:
      return grouped ? Element::attention : Element::compute;
  }
}

ClassIndex Dataflow::find_class(TensorRole role, Stage stage) const {
  return find_first(classes, [&](const TensorClass& c) { return c.role == role && c.stage == stage; });
}
SegmentIndex Dataflow::find_segment(SegmentRole role, int kind) const {
  return find_first(segments, [&](const Segment& s) { return s.role == role && s.kind == kind; });
}

bool Dataflow::layers_alone() const {
  return std::ranges::none_of(segments, [](const Segment& segment) { return segment.stage == Stage::loss; });
}

int LayerShape::kind_count() const { return kinds.empty() ? 1 : 1 + *std::max_element(kinds.begin(), kinds.end()); }

int LayerShape::forward_kinds() const {
  if (forward_layers == 0) return 0;
  return kinds.empty() ? 1 : 1 + *std::max_element(kinds.begin(), kinds.begin() + forward_layers);
}

Dataflow layers_dataflow(const LayerShape& shape, int element_bytes, int attention_bytes, int groups, Tokens context,
                         Tokens block) {
  const std::int64_t query = shape.heads / groups * shape.head_dim;   // columns of a group's q, o
  const std::int64_t key = shape.kv_heads / groups * shape.head_dim;  // columns of a group's k, of its v
  const auto row = [&](std::int64_t columns) { return Bytes(columns * attention_bytes); };

  Dataflow flow;
  flow.layers = shape.layers;
  flow.groups = groups;
  flow.context = context;
  flow.block = block;
  const int kinds = shape.kind_count();
  if (kinds > 1) flow.kinds = shape.kinds;
  flow.forward_layers = shape.forward_layers;
  const ClassIndex x = add(flow, {"x", TensorRole::hidden, Bytes(shape.hidden * element_bytes)});
  const ClassIndex qkv = add(flow, {"qkv", TensorRole::qkv, row(query + 2 * key), true, true});
  const ClassIndex o = add(flow, {"o", TensorRole::attention_output, row(query), true, true});
  const ClassIndex lse = add(flow, {"lse", TensorRole::log_sum_exp, Bytes(shape.heads / groups * 4), true, true});
  const ClassIndex d_o = add(flow, {"do", TensorRole::d_attention_output, row(query), true, true});
  const ClassIndex dq = add(flow, {"dq", TensorRole::d_query, row(query), true, true});
  const ClassIndex dk = add(flow, {"dk", TensorRole::d_key, row(key), true, true});
  const ClassIndex dv = add(flow, {"dv", TensorRole::d_value, row(key), true, true});
  const auto of_kind = [&](const char* name, int kind) {
    return kinds == 1 ? std::string(name) : std::string(name) + " (kind " + std::to_string(kind) + ")";
  };
  flow.segments = {{"input", SegmentRole::input, Stage::before, {{}, {block_of(x)}}, {}}};
  for (int kind = 0; kind < kinds; ++kind)
    flow.segments.push_back(
        {of_kind("before", kind),
         SegmentRole::before,
         Stage::before,
         {{block_of(x)}, {groups_of(qkv)}},
         kind < shape.forward_kinds() ? Side{} : Side{{groups_of(dq), groups_of(dk), groups_of(dv)}, {}},
         kinds == 1 ? -1 : kind});
  flow.segments.push_back(core_attention(qkv, o, lse, d_o, dq, dk, dv));
  for (int kind = 0; kind < kinds; ++kind) {
    Side backward{{}, {groups_of(d_o)}};
    if (shape.is_data_dependent(kind)) backward.reads = {block_of(x), groups_of(o)};
    if (kind < shape.forward_kinds()) backward = {};
    flow.segments.push_back({of_kind("after", kind),
                             SegmentRole::after,
                             Stage::after,
                             {{block_of(x), groups_of(o)}, {}},
                             std::move(backward),
                             kinds == 1 ? -1 : kind});
  }
  flow.segments.push_back({"wait", SegmentRole::wait, Stage::wait, {}, {}});
  return flow;
}

Dataflow decoder_dataflow(const Shape& shape, int element_bytes, int groups, Tokens context, Tokens block) {
  const std::int64_t query = shape.heads / groups * shape.head_dim;   // columns of a group's q, o
  const std::int64_t key = shape.kv_heads / groups * shape.head_dim;  // columns of a group's k, of its v
  const std::int64_t inner = shape.ffn * (shape.activation == Activation::silu ? 2 : 1);
  const auto row = [&](std::int64_t columns) { return Bytes(columns * element_bytes); };

  Dataflow flow;
  flow.layers = static_cast<int>(shape.layers);
  flow.groups = groups;
  flow.context = context;
  flow.block = block;
  const ClassIndex x = add(flow, {"x", TensorRole::hidden, row(shape.hidden)});
  const ClassIndex qkv = add(flow, {"qkv", TensorRole::qkv, row(query + 2 * key), true, true});
  const ClassIndex o = add(flow, {"o", TensorRole::attention_output, row(query), true, true});
  const ClassIndex lse = add(flow, {"lse", TensorRole::log_sum_exp, Bytes(shape.heads / groups * 4), true, true});
  const ClassIndex x1 = add(flow, {"x1", TensorRole::residual, row(shape.hidden)});
  const ClassIndex h = add(flow, {"h", TensorRole::mlp_inner, row(inner)});
  const ClassIndex d = add(flow, {"d", TensorRole::d_hidden, row(shape.hidden)});
  const ClassIndex d1 = add(flow, {"d1", TensorRole::d_residual, row(shape.hidden)});
  const ClassIndex dh = add(flow, {"dh", TensorRole::d_mlp_inner, row(inner)});
  const ClassIndex d_o = add(flow, {"do", TensorRole::d_attention_output, row(query), true, true});
  const ClassIndex dq = add(flow, {"dq", TensorRole::d_query, row(query), true, true});
  const ClassIndex dk = add(flow, {"dk", TensorRole::d_key, row(key), true, true});
  const ClassIndex dv = add(flow, {"dv", TensorRole::d_value, row(key), true, true});
  struct Parameters {
    ClassIndex weights, gradients, optimizer;
  };
  const auto parameters = [&](Stage stage, const std::string& name) {
    const StateBytes state = state_bytes(shape, element_bytes, LayerIndex(0), stage);
    const auto persistent = [&](const char* kind, TensorRole role, Bytes bytes) {
      return add(flow, {kind + name, role, {}, false, false, bytes, stage});
    };
    return Parameters{persistent("weights.", TensorRole::weights, state.weights),
                      persistent("gradients.", TensorRole::gradients, state.gradients),
                      persistent("optimizer.", TensorRole::optimizer, state.optimizer)};
  };
  const Parameters before = parameters(Stage::before, "before"), after = parameters(Stage::after, "after");

  flow.segments = {
      {"embedding", SegmentRole::embedding, Stage::embedding, {{}, {block_of(x)}}, {{block_of(d)}, {}}},
      {"attn_in",
       SegmentRole::attn_in,
       Stage::before,
       {{block_of(x)}, {groups_of(qkv)}},
       {{groups_of(dq), groups_of(dk), groups_of(dv), block_of(d1)}, {block_of(d)}}},
      core_attention(qkv, o, lse, d_o, dq, dk, dv),
      {"attn_out",
       SegmentRole::attn_out,
       Stage::after,
       {{block_of(x), groups_of(o)}, {block_of(x1)}},
       {{block_of(d1)}, {groups_of(d_o)}}},
      {"mlp_in",
       SegmentRole::mlp_in,
       Stage::after,
       {{block_of(x1)}, {block_of(h)}},
       {{block_of(dh), block_of(d, 1)}, {block_of(d1)}}},
      {"mlp_out",
       SegmentRole::mlp_out,
       Stage::after,
       {{block_of(x1), block_of(h)}, {block_of(x, 1)}},
       {{block_of(d, 1)}, {block_of(dh)}}},
      {"loss", SegmentRole::loss, Stage::loss, {{block_of(x)}, {block_of(d)}}, {}},
  };
  for (Segment& segment : flow.segments) {
    if (segment.stage != Stage::before && segment.stage != Stage::after) continue;
    const Parameters& of = segment.stage == Stage::before ? before : after;
    segment.forward.reads.push_back({of.weights});
    for (const ClassIndex cls : {of.weights, of.gradients}) segment.backward.reads.push_back({cls});
    segment.backward.writes.push_back({of.gradients});
  }
  const auto update = [&](const char* name, SegmentRole role, const Parameters& of) {
    const std::vector<Use> all{{of.weights}, {of.gradients}, {of.optimizer}};
    flow.segments.push_back({name, role, Stage::update, {all, all}, {}});
  };
  update("update.before", SegmentRole::update_before, before);
  update("update.after", SegmentRole::update_after, after);
  flow.segments.push_back({"optimizer", SegmentRole::optimizer, Stage::optimizer, {}, {}});
  flow.segments.push_back({"wait", SegmentRole::wait, Stage::wait, {}, {}});
  return flow;
}

void add_host_updates(Dataflow& flow) {
  flow.segments.push_back({"host_update.before", SegmentRole::host_update_before, Stage::host_update, {}, {}});
  flow.segments.push_back({"host_update.after", SegmentRole::host_update_after, Stage::host_update, {}, {}});
}

}  // namespace memo::model
