// The calls of a dataflow of layers alone (model::layers_dataflow): the stages before and after attention run a
// plug-in's code, attention itself is Memo's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "memo/libtorch/kernels/attention_table.h"
#include "memo/libtorch/model/segments.h"
#include "memo/model/dataflow.h"
#include "memo/plugin/layer_calls.h"

namespace memo::plugin {

// model::layers_dataflow for these dtypes.
model::Dataflow layers_dataflow(const model::LayerShape& shape, const libtorch::ComputeDtype& dtype, int groups,
                                Tokens context, Tokens block);

class LayerSegments final : public libtorch::Segments {
 public:
  // `attention`: the dtype of attention's operands. `kernel` computes it.
  LayerSegments(const model::Dataflow& flow, const model::LayerShape& shape, at::ScalarType attention,
                LayerCalls& calls, const libtorch::AttentionKernel& kernel);

  // Sets the input hidden [S, h] of the next calls, which are all of one layer.
  void begin_forward(at::Tensor hidden);
  // Returns, once, the layer's output [S, h] and its extra outputs [S, any].
  std::vector<at::Tensor> take_outputs();
  // Sets the gradients of these outputs. `parameters`: the layer's trained parameters.
  void begin_backward(std::vector<at::Tensor> d_outputs, at::Tensor d_hidden, std::vector<at::Tensor> parameters);
  // Returns, once, the sums of gradients over the blocks, float32; undefined for a parameter that was not used.
  std::vector<at::Tensor> take_gradients();
  // The window of a layer's attention, known once a block has reached it; 0: none.
  [[nodiscard]] std::int64_t window(model::LayerIndex layer) const;
  void forget();  // drops blocks that wait

  std::vector<at::Tensor> forward(model::SegmentIndex segment, const libtorch::Where& where,
                                  const std::vector<at::Tensor>& reads, libtorch::Graph* graph) override;
  std::vector<at::Tensor> backward(model::SegmentIndex segment, const libtorch::Where& where,
                                   const std::vector<at::Tensor>& reads, libtorch::Graph& graph) override;
  [[nodiscard]] bool external() const override { return true; }

 private:
  struct Attention {  // the arguments of a layer's attention, from the last block that reached it
    float softcap = 0;
    std::shared_ptr<const libtorch::OwnMask> mask;
  };
  at::Tensor rows(const at::Tensor& whole, model::BlockIndex block) const;
  // `graph` is null for layers without a backward side.
  std::vector<at::Tensor> before(const libtorch::Where& where, const at::Tensor& x, libtorch::Graph* graph);
  void after(const libtorch::Where& where, const std::vector<at::Tensor>& reads, libtorch::Graph& graph,
             bool differentiable, bool again);
  const at::Tensor& d_output(std::size_t i);
  std::vector<at::Tensor> after_backward(const libtorch::Where& where, const std::vector<at::Tensor>& reads,
                                         libtorch::Graph& graph);
  // Goes on after attention with x and o at their present addresses; returns all outputs.
  std::vector<at::Tensor> go_on(const libtorch::Where& where, const std::vector<at::Tensor>& reads,
                                libtorch::Graph& graph);
  // Gradients of the graph's leaves; adds those of parameters to the sums.
  std::vector<at::Tensor> differentiate(libtorch::Graph& graph, const std::vector<at::Tensor>& of_roots);
  [[nodiscard]] libtorch::GroupHeads heads(const libtorch::Where& where) const;  // heads of one group
  [[nodiscard]] libtorch::Mask mask(const libtorch::Where& where) const;

  const model::Dataflow& flow_;
  libtorch::GroupHeads heads_;  // heads of one group
  at::ScalarType attention_;
  LayerCalls& calls_;
  const libtorch::AttentionKernel& kernel_;
  at::Tensor hidden_, d_hidden_;
  std::vector<at::Tensor> outputs_, d_outputs_, parameters_, sums_;
  model::LayerIndex outputs_of_ = model::LayerIndex::none();
  IndexedVector<model::LayerIndex, bool> data_dependent_;
  IndexedVector<model::LayerIndex, Attention> attentions_;
  // The x of the blocks that wait at attention.
  std::map<std::pair<model::LayerIndex, model::BlockIndex>, at::Tensor> suspended_;
};

}  // namespace memo::plugin
