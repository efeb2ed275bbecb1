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

#include "memo/base/units.h"

namespace memo::model {

// A class of tensors: one instance for each (layer, token block, head group) for which a segment writes it. A
// persistent class has one instance for each layer instead: weights, gradients and optimizer state, which outlive the
// step and are changed in place.
struct TensorClass {
  std::string name;
  Bytes row;              // bytes per token (and per head group when `grouped`); 0 when lasting
  bool grouped = false;   // one instance per head group
  bool sequence = false;  // some call reads or writes all blocks as one buffer, so blocks lie one after another
  Bytes layer_bytes{};    // of an instance of a lasting class, else 0
  [[nodiscard]] bool lasting() const { return layer_bytes > Bytes(0); }
};

// One operand of a segment call, relative to the call's layer, block and group.
struct Use {
  int cls = 0;
  int layer_shift = 0;          // the operand's layer less the call's layer
  bool whole_sequence = false;  // every block, as one contiguous buffer
  bool every_group = false;     // every head group, else the call's own
};

struct Side {
  std::vector<Use> reads, writes;
};

// update: the optimizer's step of a layer. optimizer: its step for parameters that belong to no layer, the last call.
// wait: computes nothing; copies between two passes over a sequence may end or begin there.
enum class Stage { embedding, before, core, after, loss, update, optimizer, wait };

// A piece of the step. Stages before and after run once for each token block, core runs once for each head group over
// the whole sequence. The loss runs its backward within its forward side, which writes the gradient of its input; its
// backward side is empty.
struct Segment {
  std::string name;
  Stage stage = Stage::before;
  Side forward, backward;
  int kind = -1;  // runs in the layers of this kind only; -1: in all
  [[nodiscard]] bool has_backward() const { return !backward.reads.empty() || !backward.writes.empty(); }
};

struct Dataflow {
  std::vector<TensorClass> classes;
  std::vector<Segment> segments;  // in the order in which a block meets them
  int layers = 0;
  int groups = 1;
  Tokens context;          // S
  Tokens block;            // T; the last block holds what is left of S
  std::vector<int> kinds;  // of each layer; empty: all layers are alike
  int forward_layers = 0;  // of layers alone: the first so many, whose gradients nobody wants, have no backward side

  [[nodiscard]] int blocks() const { return static_cast<int>((context.value() + block.value() - 1) / block.value()); }
  [[nodiscard]] Tokens block_tokens(int b) const {
    return b + 1 < blocks() ? block : context - block * static_cast<std::int64_t>(b);
  }
  [[nodiscard]] int blocks_of(int cls) const { return classes[static_cast<std::size_t>(cls)].lasting() ? 1 : blocks(); }
  [[nodiscard]] Bytes bytes_of(int cls, int block) const {  // of one instance
    const TensorClass& c = classes[static_cast<std::size_t>(cls)];
    return c.lasting() ? c.layer_bytes : c.row * block_tokens(block).value();
  }
  // The prefixes that core attention may be computed again for, in blocks, short of the whole sequence: about eighths.
  [[nodiscard]] std::vector<int> prefixes() const;
  [[nodiscard]] int find_class(const std::string& name) const;    // -1 when there is none
  [[nodiscard]] int find_segment(const std::string& name) const;  // -1 when there is none
  [[nodiscard]] bool layered(int segment) const {                 // a piece of a layer
    const Stage stage = segments[static_cast<std::size_t>(segment)].stage;
    return stage == Stage::before || stage == Stage::core || stage == Stage::after;
  }
  // Whether the table is of layers alone: it has no loss. The rest of the model then calls the layers' forward and
  // backward sides one by one, and computes the loss between them.
  [[nodiscard]] bool layers_alone() const;
  [[nodiscard]] bool in_layer(int segment, int layer) const {  // whether a piece of a layer is one of this layer
    const int kind = segments[static_cast<std::size_t>(segment)].kind;
    return kind < 0 || kinds.empty() || kind == kinds[static_cast<std::size_t>(layer)];
  }
  // The number of layers whose tensors are placed. The last layer is not placed where its backward follows its forward
  // at once.
  [[nodiscard]] int placed_layers() const { return layers_alone() ? layers : layers - 1; }
  [[nodiscard]] bool each_layer(int segment) const {  // runs for each layer
    return layered(segment) || segments[static_cast<std::size_t>(segment)].stage == Stage::update;
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

// The shape of layers whose mathematics is external code: where attention divides them.
struct LayerShape {
  int layers = 0;
  std::int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::vector<int> kinds = {};  // of each layer, from 0; layers of a kind allocate alike; empty: all are of kind 0
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
