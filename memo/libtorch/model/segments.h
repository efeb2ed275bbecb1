// What each call of a dataflow does with tensors: takes operands in the table's order and returns results in its order.
// The recorder runs the calls on the heap to learn their allocations, the runner at planned addresses.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <cstdint>
#include <span>
#include <vector>

#include "memo/model/dataflow.h"

namespace memo::libtorch {

// The autograd graph of one forward call, kept until its backward call. It holds no planned memory: its leaves lie at
// planned addresses, and tensors that autograd saved are handles.
struct Graph {
  std::vector<at::Tensor> leaves;  // operands whose gradients backward returns
  std::vector<torch::autograd::Edge> roots;
};

// Makes a leaf over the tensor's memory, and adds it to the graph.
at::Tensor leaf(const at::Tensor& tensor, Graph& graph);
// Makes the outputs the graph's roots.
void keep_roots(const std::vector<at::Tensor>& outputs, Graph& graph);
std::vector<at::Tensor> detached(const std::vector<at::Tensor>& tensors);
// Gradients of the leaves and of `others` (undefined where the graph does not lead to one), given those of the roots.
// Empties the graph.
std::vector<at::Tensor> gradients(Graph& graph, const std::vector<at::Tensor>& of_roots,
                                  const std::vector<at::Tensor>& others = {});

// The dtypes of tensors. Attention's operands may differ from the rest, as under autocast.
struct ComputeDtype {
  at::ScalarType rows, attention;
  ComputeDtype(at::ScalarType all) : rows(all), attention(all) {}  // NOLINT(google-explicit-constructor): one for all
  ComputeDtype(at::ScalarType of_rows, at::ScalarType of_attention) : rows(of_rows), attention(of_attention) {}
  // The dtype of a class. A tensor that autograd saves is treated as float32 of its size in bytes.
  [[nodiscard]] at::ScalarType of(const model::TensorClass& cls) const;
};

// The part of the sequence that a call works on.
struct Where {
  model::LayerIndex layer;
  model::BlockIndex block = model::BlockIndex::none();  // none: all blocks
  at::Tensor tokens;     // [T] int64, the block's; undefined where the calls are of layers alone
  at::Tensor targets;    // [T] int64, the block's; < 0: no loss
  at::Tensor positions;  // [T] int64, of the block's tokens in their documents
  // First tokens of the whole sequence's documents (memo/libtorch/kernels/attention_mask.h).
  std::span<const std::int64_t> document_starts = {};
};

class Segments {
 public:
  virtual ~Segments() = default;
  // Runs the forward side of a segment, also for a rerun. `graph`, when given, receives what backward needs.
  virtual std::vector<at::Tensor> forward(model::SegmentIndex segment, const Where& where,
                                          const std::vector<at::Tensor>& reads, Graph* graph) = 0;
  // Runs the backward side. `reads` are the table's reads; behind the gradients come the tensors that autograd saved.
  virtual std::vector<at::Tensor> backward(model::SegmentIndex segment, const Where& where,
                                           const std::vector<at::Tensor>& reads, Graph& graph) = 0;
  // The sum of losses so far in this step.
  [[nodiscard]] virtual double loss() const { return 0; }
  // Whether forward calls run external code, such as a plug-in's layers. Then autograd may keep tensors outside of the
  // dataflow, which stay where they are; small allocations are not planned; and transients of the stage before
  // attention may still be alive, though unused, when a call has ended.
  [[nodiscard]] virtual bool external() const { return false; }
  [[nodiscard]] std::size_t least_planned() const;  // bytes; smaller allocations are not planned
};

}  // namespace memo::libtorch
