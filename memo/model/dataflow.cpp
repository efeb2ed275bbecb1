// The tables of a decoder and of layers alone, and look-ups in a table.
#include "memo/model/dataflow.h"

#include <algorithm>

#include "memo/model/parameters.h"
#include "memo/model/shape.h"

namespace memo::model {
namespace {

template <class List>
int find_named(const List& list, const std::string& name) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const auto& item) { return item.name == name; });
  return found == list.end() ? -1 : static_cast<int>(found - list.begin());
}

Use block_of(int cls, int layer_shift = 0) { return {cls, layer_shift, false, false}; }
Use groups_of(int cls) { return {cls, 0, false, true}; }
Use sequence_of(int cls) { return {cls, 0, true, false}; }

// The segment for core attention of one head group, by the numbers of its classes.
Segment core_attention(int qkv, int o, int lse, int d_o, int dq, int dk, int dv) {
  return {"attention",
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

int Dataflow::find_class(const std::string& name) const { return find_named(classes, name); }
int Dataflow::find_segment(const std::string& name) const { return find_named(segments, name); }

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
  enum : int { x, qkv, o, lse, d_o, dq, dk, dv };
  flow.classes = {{"x", Bytes(shape.hidden * element_bytes)},
                  {"qkv", row(query + 2 * key), true, true},
                  {"o", row(query), true, true},
                  {"lse", Bytes(shape.heads / groups * 4), true, true},
                  {"do", row(query), true, true},
                  {"dq", row(query), true, true},
                  {"dk", row(key), true, true},
                  {"dv", row(key), true, true}};
  const auto of_kind = [&](const char* name, int kind) {
    return kinds == 1 ? std::string(name) : std::string(name) + " (kind " + std::to_string(kind) + ")";
  };
  flow.segments = {{"input", Stage::before, {{}, {block_of(x)}}, {}}};
  for (int kind = 0; kind < kinds; ++kind)
    flow.segments.push_back(
        {of_kind("before", kind),
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
                             Stage::after,
                             {{block_of(x), groups_of(o)}, {}},
                             std::move(backward),
                             kinds == 1 ? -1 : kind});
  }
  flow.segments.push_back({"wait", Stage::wait, {}, {}});
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
  enum : int { x, qkv, o, lse, x1, h, d, d1, dh, d_o, dq, dk, dv, before, after = before + 3 };
  flow.classes = {{"x", row(shape.hidden)},
                  {"qkv", row(query + 2 * key), true, true},
                  {"o", row(query), true, true},
                  {"lse", Bytes(shape.heads / groups * 4), true, true},
                  {"x1", row(shape.hidden)},
                  {"h", row(inner)},
                  {"d", row(shape.hidden)},
                  {"d1", row(shape.hidden)},
                  {"dh", row(inner)},
                  {"do", row(query), true, true},
                  {"dq", row(query), true, true},
                  {"dk", row(key), true, true},
                  {"dv", row(key), true, true}};
  for (const auto& [stage, name] : {std::pair(Stage::before, "before"), std::pair(Stage::after, "after")}) {
    const StateBytes state = state_bytes(shape, element_bytes, 0, stage);
    flow.classes.push_back({std::string("weights.") + name, {}, false, false, state.weights});
    flow.classes.push_back({std::string("gradients.") + name, {}, false, false, state.gradients});
    flow.classes.push_back({std::string("optimizer.") + name, {}, false, false, state.optimizer});
  }

  flow.segments = {
      {"embedding", Stage::embedding, {{}, {block_of(x)}}, {{block_of(d)}, {}}},
      {"attn_in",
       Stage::before,
       {{block_of(x)}, {groups_of(qkv)}},
       {{groups_of(dq), groups_of(dk), groups_of(dv), block_of(d1)}, {block_of(d)}}},
      core_attention(qkv, o, lse, d_o, dq, dk, dv),
      {"attn_out", Stage::after, {{block_of(x), groups_of(o)}, {block_of(x1)}}, {{block_of(d1)}, {groups_of(d_o)}}},
      {"mlp_in", Stage::after, {{block_of(x1)}, {block_of(h)}}, {{block_of(dh), block_of(d, 1)}, {block_of(d1)}}},
      {"mlp_out", Stage::after, {{block_of(x1), block_of(h)}, {block_of(x, 1)}}, {{block_of(d, 1)}, {block_of(dh)}}},
      {"loss", Stage::loss, {{block_of(x)}, {block_of(d)}}, {}},
  };
  for (Segment& segment : flow.segments) {
    if (segment.stage != Stage::before && segment.stage != Stage::after) continue;
    const int weights = segment.stage == Stage::before ? before : after, gradients = weights + 1;
    segment.forward.reads.push_back({weights});
    for (const int cls : {weights, gradients}) segment.backward.reads.push_back({cls});
    segment.backward.writes.push_back({gradients});
  }
  for (const auto& [first, name] : {std::pair<int, const char*>(before, "update.before"), {after, "update.after"}}) {
    const std::vector<Use> all{{first}, {first + 1}, {first + 2}};
    flow.segments.push_back({name, Stage::update, {all, all}, {}});
  }
  flow.segments.push_back({"optimizer", Stage::optimizer, {}, {}});
  flow.segments.push_back({"wait", Stage::wait, {}, {}});
  return flow;
}

}  // namespace memo::model
