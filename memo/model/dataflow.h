// The table of what a training step computes: the classes of tensors that pass between calls, and the segments that
// read and write them. Nothing is computed here. Planner, validator, simulator and executor all read this one table, so
// another kind of model (or a plug-in's layers) is another table.
//
// A step of a whole model runs, for L layers and B token blocks (design: "How a step runs"):
//   forward   for b: embedding, before(0);  core(0);  for b: after(0), before(1);  core(1); ...
//   turn      for b: after(L-1), loss, after'(L-1)            (' = backward)
//   backward  core'(L-1);  for b, last first: before'(L-1), after'(L-2);  core'(L-2); ...;  for b: before'(0),
//   embedding'
//   update    for l: update(l), the parameters of before, then of after;  optimizer, those of no layer
// A step of layers alone:
//   forward   for l: { for b: before(l);  core(l);  for b: after(l) }
//   backward  for l, last first: { for b, last first: after'(l);  core'(l);  for b, last first: before'(l) }
#pragma once

#include <string>
#include <vector>

#include "memo/base/index.h"
#include "memo/base/units.h"

namespace memo::model {

using ClassIndex = Index<struct ClassTag>;      // into Dataflow::classes
using SegmentIndex = Index<struct SegmentTag>;  // into Dataflow::segments
using LayerIndex = Index<struct LayerTag>;      // layer L, behind the last, has what the last one gives: x, and its d
using BlockIndex = Index<struct BlockTag>;      // token block

// update: the optimizer's step of a layer; optimizer: that of the parameters of no layer, the last call. wait: nothing
// is computed; copies between two passes over a sequence may end or begin there. host_update: the optimizer's step of a
// layer on the host, in place of its update: on memory of a tier, with no operands on the device.
enum class Stage { embedding, before, core, after, loss, update, optimizer, wait, host_update };
// Whether the stage changes parameters.
inline bool changes_parameters(Stage stage) {
  return stage == Stage::update || stage == Stage::optimizer || stage == Stage::host_update;
}

// What a class of tensors holds. Code decides by roles; names are for people.
enum class TensorRole {
  hidden,            // x: what goes into a layer, and comes out of the one before
  qkv,               // queries, keys and values
  attention_output,  // o
  log_sum_exp,       // lse
  residual,          // x1: the sum behind attention
  mlp_inner,         // h: what the MLP's activation is applied to
  d_hidden,          // gradients have a d before what they are of
  d_residual,
  d_mlp_inner,
  d_attention_output,
  d_query,
  d_key,
  d_value,
  saved,  // what autograd saves of a segment beyond the operands of this table
  weights,
  gradients,  // of the weights
  optimizer,  // moments, and float32 weights of a 16-bit compute dtype
  other       // of a table that is none of this folder's
};

// What the elements of a tensor are. Attention's operands may be of another dtype than the rest, as under autocast.
enum class Element { compute, attention, float32, bytes };  // bytes: autograd alone knows

// A class of tensors: one instance for each (layer, token block, head group) for which a segment writes it. A
// persistent class has one instance for each layer instead: weights, gradients and optimizer state, which outlive the
// step and are changed in place.
struct TensorClass {
  std::string name;
  TensorRole role = TensorRole::other;
  Bytes row;                    // bytes per token (and per head group when `grouped`); 0 when persistent
  bool grouped = false;         // one instance per head group
  bool sequence = false;        // some call reads or writes all blocks as one buffer, so blocks lie one after another
  Bytes layer_bytes{};          // of an instance of a persistent class, else 0
  Stage stage = Stage::before;  // of a persistent class: whether it is of the parameters before or after core attention
  [[nodiscard]] Element element() const;
  [[nodiscard]] bool persistent() const { return layer_bytes > Bytes(0); }
};

// One operand of a segment call, relative to the call's layer, block and group.
struct Use {
  ClassIndex cls;
  int layer_shift = 0;          // the operand's layer less the call's layer
  bool whole_sequence = false;  // every block, as one contiguous buffer
  bool every_group = false;     // every head group, else the call's own
};

struct Side {
  std::vector<Use> reads, writes;
};

// What a segment computes. Those of a decoder come first, up to `wait`.
enum class SegmentRole {
  embedding,
  attn_in,  // norm, q, k and v
  attention,
  attn_out,       // out-projection, residual
  mlp_in,         // norm, the MLP's first product
  mlp_out,        // activation, second product, residual
  loss,           // and final norm, head
  update_before,  // the optimizer's step of a layer's parameters before core attention
  update_after,
  optimizer,
  wait,
  host_update_before,
  host_update_after,
  input,   // of layers alone: what comes in from the rest of the model
  before,  // someone else's mathematics up to attention
  after,   // and behind it
  other    // of a table that is none of this folder's
};

// A piece of the step. Stages before and after run once for each token block, core runs once for each head group over
// the whole sequence. The loss runs its backward within its forward side, which writes the gradient of its input; its
// backward side is empty.
struct Segment {
  std::string name;
  SegmentRole role = SegmentRole::other;
  Stage stage = Stage::before;
  Side forward, backward;
  int kind = -1;  // runs in the layers of this kind only; -1: in all
  [[nodiscard]] bool has_backward() const { return !backward.reads.empty() || !backward.writes.empty(); }
  // The stage of the parameters that an update on the host changes.
  [[nodiscard]] Stage host_updated() const {
    return role == SegmentRole::host_update_before ? Stage::before : Stage::after;
  }
};

// The role of the update in whose place an update on the host is; segments of other roles are in no other's place.
inline SegmentRole in_place_of(SegmentRole role) {
  if (role == SegmentRole::host_update_before) return SegmentRole::update_before;
  return role == SegmentRole::host_update_after ? SegmentRole::update_after : role;
}

struct Dataflow {
  IndexedVector<ClassIndex, TensorClass> classes;
  IndexedVector<SegmentIndex, Segment> segments;  // in the order in which a block meets them
  int layers = 0;
  int groups = 1;
  Tokens context;                        // S
  Tokens block;                          // T; the last block holds what is left of S
  IndexedVector<LayerIndex, int> kinds;  // of each layer; empty: all layers are alike
  int forward_layers = 0;  // of layers alone: the first so many, whose gradients nobody wants, have no backward side

  [[nodiscard]] int blocks() const { return static_cast<int>((context.value() + block.value() - 1) / block.value()); }
  [[nodiscard]] BlockIndex last_block() const { return BlockIndex(blocks() - 1); }
  [[nodiscard]] Tokens block_tokens(BlockIndex b) const {
    return b < last_block() ? block : context - block * static_cast<std::int64_t>(b.value());
  }
  [[nodiscard]] int blocks_of(ClassIndex cls) const { return classes[cls].persistent() ? 1 : blocks(); }
  [[nodiscard]] Bytes bytes_of(ClassIndex cls, BlockIndex b) const {  // of one instance
    const TensorClass& c = classes[cls];
    return c.persistent() ? c.layer_bytes : c.row * block_tokens(b).value();
  }
  // The prefixes that core attention may be computed again for, in blocks, short of the whole sequence: about eighths.
  [[nodiscard]] std::vector<int> prefixes() const;
  // The first of the role, or none. `stage`: of the parameters, of a persistent class.
  [[nodiscard]] ClassIndex find_class(TensorRole role, Stage stage = Stage::before) const;
  [[nodiscard]] SegmentIndex find_segment(SegmentRole role, int kind = -1) const;
  [[nodiscard]] bool layered(SegmentIndex segment) const {  // a piece of a layer
    const Stage stage = segments[segment].stage;
    return stage == Stage::before || stage == Stage::core || stage == Stage::after;
  }
  // Whether the table is of layers alone: it has no loss. The rest of the model then calls the layers' forward and
  // backward sides one by one, and computes the loss between them.
  [[nodiscard]] bool layers_alone() const;
  // Whether a piece of a layer is one of this layer.
  [[nodiscard]] bool in_layer(SegmentIndex segment, LayerIndex layer) const {
    const int kind = segments[segment].kind;
    return kind < 0 || kinds.empty() || kind == kinds[layer];
  }
  // The number of layers whose tensors are placed. The last layer is not placed where its backward follows its forward
  // at once.
  [[nodiscard]] int placed_layers() const { return layers_alone() ? layers : layers - 1; }
  [[nodiscard]] bool each_layer(SegmentIndex segment) const {  // runs for each layer
    const Stage stage = segments[segment].stage;
    return layered(segment) || stage == Stage::update || stage == Stage::host_update;
  }
};

struct Shape;  // memo/model/shape.h

// The table of a decoder with the five segments that all supported families share:
//   embedding -> x;  attn_in: x -> qkv;  attention: qkv -> o, lse;  attn_out: x, o -> x1;  mlp_in: x1 -> h;
//   mlp_out: x1, h -> x of the next layer;  loss: x -> d
// and their gradients d (of x), d1 (of x1), dh, do, dq, dk, dv. Persistent classes are weights, gradients and optimizer
// (state) of each layer, separate for its stages before and after ("weights.before"); updates read and write them.
// Tensors that a segment saves beyond its inputs and outputs are added by the recorder, which sees them through the
// saved-tensor hooks. `element_bytes` is that of the compute dtype.
Dataflow decoder_dataflow(const Shape& shape, int element_bytes, int groups, Tokens context, Tokens block);

// Adds the segments by which the host may update layers, which a plan uses where their optimizer state stays on a tier
// in the host's memory.
void add_host_updates(Dataflow& flow);

// The shape of layers whose mathematics is external code: where attention divides them.
struct LayerShape {
  int layers = 0;
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  IndexedVector<LayerIndex, int> kinds = {};  // from 0; layers of a kind allocate alike; empty: all are of kind 0
  // For each kind: whether the allocations after attention depend on values, as in a mixture of experts. That part is
  // then not planned: its backward call computes the layer again, and frees everything. Empty: false for all kinds.
  std::vector<bool> data_dependent = {};
  // The number of first layers without a backward side (Dataflow::forward_layers). They are of kinds of their own.
  int forward_layers = 0;
  [[nodiscard]] int kind_count() const;
  [[nodiscard]] int forward_kinds() const;  // of the forward layers: the first kinds
  [[nodiscard]] bool is_data_dependent(int kind) const {
    return !data_dependent.empty() && data_dependent[static_cast<std::size_t>(kind)];
  }
};

// The table of layers alone:
//   input -> x;  before: x -> qkv;  attention: qkv -> o, lse;  after: x, o
// with a `before` and an `after` for each kind of layer, and the gradients do, dq, dk, dv. Hidden states that enter and
// leave layers, their gradients, and parameters are memory of the rest of the model and not operands. `element_bytes`
// is that of hidden states, `attention_bytes` that of attention's operands, which autocast makes smaller.
Dataflow layers_dataflow(const LayerShape& shape, int element_bytes, int attention_bytes, int groups, Tokens context,
                         Tokens block);

}  // namespace memo::model
