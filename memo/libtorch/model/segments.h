// What each call of a dataflow does with tensors: operands in the table's order in, results in its order out. The
// recorder runs it on the heap to learn the allocations, the runner at planned addresses.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <cstdint>
#include <span>
#include <vector>

#include "memo/model/dataflow.h"

namespace memo::libtorch {

// The autograd graph of one forward call, kept until its backward call. It holds no planned memory: leaves lie at
// planned addresses, what autograd saved is a handle.
struct Graph {
  std::vector<at::Tensor> leaves;  // the reads that gradients are wanted for
  std::vector<torch::autograd::Edge> roots;
};

// A leaf of its own over the same memory, noted in the graph.
at::Tensor leaf(const at::Tensor& tensor, Graph& graph);
// Notes what is differentiated.
void keep_roots(const std::vector<at::Tensor>& outputs, Graph& graph);
std::vector<at::Tensor> detached(const std::vector<at::Tensor>& tensors);
// Gradients of the leaves, then of `others` (undefined where the graph does not lead to one), from those of the roots.
// The graph is empty behind it.
std::vector<at::Tensor> gradients(Graph& graph, const std::vector<at::Tensor>& of_roots,
                                  const std::vector<at::Tensor>& others = {});

// What tensors of a class are made of. Attention's operands may differ from the rest, as under autocast.
struct ComputeDtype {
  at::ScalarType rows, attention;
  ComputeDtype(at::ScalarType all) : rows(all), attention(all) {}  // NOLINT(google-explicit-constructor): one for all
  ComputeDtype(at::ScalarType of_rows, at::ScalarType of_attention) : rows(of_rows), attention(of_attention) {}
  // Of what autograd saves, float32 stands for bytes.
  [[nodiscard]] at::ScalarType of(const model::TensorClass& cls) const;
};

// Which part of the sequence a call works on.
struct Where {
  int layer = 0;
  int block = -1;        // -1: all
  at::Tensor tokens;     // [T] int64, of the block; undefined where the calls are of layers alone
  at::Tensor targets;    // [T] int64, of the block; < 0: no loss there
  at::Tensor positions;  // [T] int64, of the block's tokens in their documents
  // Documents of the whole sequence (memo/libtorch/kernels/attention_mask.h).
  std::span<const std::int64_t> document_starts = {};
};

class Segments {
 public:
  virtual ~Segments() = default;
  // Forward side of a segment; also a rerun. `graph`, when given, receives what backward needs.
  virtual std::vector<at::Tensor> forward(int segment, const Where& where, const std::vector<at::Tensor>& reads,
                                          Graph* graph) = 0;
  // Backward side. `reads` are the table's reads; those beyond the gradients belong to autograd's saved tensors.
  virtual std::vector<at::Tensor> backward(int segment, const Where& where, const std::vector<at::Tensor>& reads,
                                           Graph& graph) = 0;
  // So far in this step.
  [[nodiscard]] virtual double loss() const { return 0; }
  // Someone else's code runs inside of forward calls: autograd may keep tensors that are not of the dataflow, which
  // stay where they are, small allocations are not planned, and transients of the stage before attention may be alive,
  // though unused, when a call has ended.
  [[nodiscard]] virtual bool external() const { return false; }
  [[nodiscard]] std::size_t least_planned() const;  // bytes
};

}  // namespace memo::libtorch
