// What each call of a decoder's dataflow does with tensors: operands in the table's order in, results in its order out.
// The recorder runs it on the heap to learn the allocations, the runner at planned addresses.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/function.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "memo/model/dataflow.h"
#include "memo/torch/decoder.h"
#include "memo/torch/model_state.h"

namespace memo::edge {

// The autograd graph of one forward call, kept until its backward call. It holds no planned memory: leaves lie at
// planned addresses, what autograd saved is a handle.
struct Graph {
  std::vector<at::Tensor> leaves;  // the reads that gradients are wanted for
  std::vector<torch::autograd::Edge> roots;
};

// Which part of the sequence a call works on.
struct Where {
  int layer = 0;
  at::Tensor tokens;                          // [T] int64, of the block
  at::Tensor targets;                         // [T] int64, of the block; < 0: no loss there
  at::Tensor positions;                       // [T] int64, of the block's tokens in their documents
  std::span<const std::int64_t> starts = {};  // documents of the whole sequence (memo/torch/attention_mask.h)
};

class Segments {
 public:
  // `update` is what the optimizer's calls do.
  using Update = std::function<void(const StateGroup&)>;
  Segments(const model::Dataflow& flow, const Decoder& decoder, Update update);

  // Forward side of a segment; also a rerun. `graph`, when given, receives what backward needs.
  std::vector<at::Tensor> forward(int segment, const Where& where, const std::vector<at::Tensor>& reads, Graph* graph);
  // Backward side. `reads` are the table's reads; those beyond the gradients belong to autograd's saved tensors.
  std::vector<at::Tensor> backward(int segment, const Where& where, const std::vector<at::Tensor>& reads, Graph& graph);
  // Whether a backward call of the segment follows autograd's graph.
  [[nodiscard]] bool has_graph(int segment) const;

  LossSum loss_sum;       // of the loss calls since it was reset
  double loss_scale = 1;  // of a target's loss in gradients: 1 / the number of targets of a step

 private:
  enum class Kind {
    embedding,
    attn_in,
    attention,
    attn_out,
    mlp_in,
    mlp_out,
    loss,
    update_before,
    update_after,
    optimizer,
    wait
  };
  [[nodiscard]] Kind kind(int segment) const { return kinds_[static_cast<std::size_t>(segment)]; }

  std::vector<Kind> kinds_;
  int groups_;
  const Decoder& decoder_;
  Update update_;
};

}  // namespace memo::edge
