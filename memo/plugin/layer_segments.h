// The calls of a dataflow of layers alone (model::layers_dataflow): their stages before and after attention are a
// plug-in's code, attention is Memo's.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "memo/libtorch/kernels/attention_mask.h"
#include "memo/libtorch/model/segments.h"
#include "memo/model/dataflow.h"
#include "memo/plugin/layer_calls.h"

namespace memo::plugin {

// model::layers_dataflow of these dtypes.
model::Dataflow layers_dataflow(const model::LayerShape& shape, const libtorch::ComputeDtype& dtype, int groups,
                                Tokens context, Tokens block);

class LayerSegments final : public libtorch::Segments {
 public:
  // `attention`: the dtype of attention's operands.
  LayerSegments(const model::Dataflow& flow, const model::LayerShape& shape, at::ScalarType attention,
                LayerCalls& calls);

  // What the next calls, all of one layer, work on: hidden [S, h].
  void begin_forward(at::Tensor hidden);
  // The layer's output [S, h], then what else it gives [S, any]. Once.
  std::vector<at::Tensor> take_outputs();
  // Gradients of these outputs; `parameters`: the layer's, that gradients are wanted for.
  void begin_backward(std::vector<at::Tensor> d_outputs, at::Tensor d_hidden, std::vector<at::Tensor> parameters);
  // Sums over the blocks, float32; undefined for a parameter that took no part. Once.
  std::vector<at::Tensor> take_gradients();
  // Of a layer's attention, once a block came there; 0: none.
  [[nodiscard]] std::int64_t window(int layer) const;
  void forget();  // blocks that wait

  std::vector<at::Tensor> forward(int segment, const libtorch::Where& where, const std::vector<at::Tensor>& reads,
                                  libtorch::Graph* graph) override;
  std::vector<at::Tensor> backward(int segment, const libtorch::Where& where, const std::vector<at::Tensor>& reads,
                                   libtorch::Graph& graph) override;
  [[nodiscard]] bool external() const override { return true; }

 private:
  struct Attention {  // of a layer, as a block said that came there
    float softcap = 0;
    std::shared_ptr<const libtorch::OwnMask> mask;
  };
  at::Tensor rows(const at::Tensor& whole, int block) const;
  // Without a graph it is of a layer whose gradients nobody wants.
  std::vector<at::Tensor> before(const libtorch::Where& where, const at::Tensor& x, libtorch::Graph* graph);
  void after(const libtorch::Where& where, const std::vector<at::Tensor>& reads, libtorch::Graph& graph,
             bool differentiable, bool again);
  const at::Tensor& d_output(std::size_t i);
  std::vector<at::Tensor> after_backward(const libtorch::Where& where, const std::vector<at::Tensor>& reads,
                                         libtorch::Graph& graph);
  // Goes on behind attention with x and o as they lie now; returns all outputs.
  std::vector<at::Tensor> go_on(const libtorch::Where& where, const std::vector<at::Tensor>& reads,
                                libtorch::Graph& graph);
  // Of the graph's leaves; those of parameters are added to the sums.
  std::vector<at::Tensor> differentiate(libtorch::Graph& graph, const std::vector<at::Tensor>& of_roots);
  [[nodiscard]] libtorch::GroupHeads heads(const libtorch::Where& where) const;  // of a group
  [[nodiscard]] libtorch::Mask mask(const libtorch::Where& where) const;

  const model::Dataflow& flow_;
  libtorch::GroupHeads heads_;  // of a group
  at::ScalarType attention_;
  LayerCalls& calls_;
  at::Tensor hidden_, d_hidden_;
  std::vector<at::Tensor> outputs_, d_outputs_, parameters_, sums_;
  int outputs_of_ = -1;                                  // layer
  std::vector<bool> data_dependent_;                     // of each layer
  std::vector<Attention> attentions_;                    // of each layer
  std::map<std::pair<int, int>, at::Tensor> suspended_;  // by layer and block: the x of those that wait at attention
};

}  // namespace memo::plugin
