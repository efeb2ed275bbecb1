// The calls of a dataflow of layers alone (model::layers_dataflow): their stages before and after attention are a
// plug-in's code, attention is Memo's.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "memo/model/dataflow.h"
#include "memo/plugin/layer_calls.h"
#include "memo/torch/attention_mask.h"
#include "memo/torch/segments.h"

namespace memo::plugin {

class LayerSegments final : public edge::Segments {
 public:
  LayerSegments(const model::Dataflow& flow, const model::LayerShape& shape, LayerCalls& calls);

  // What the next calls, all of one layer, work on. Both are [S, h].
  void begin_forward(at::Tensor hidden, at::Tensor output);
  // `parameters`: the layer's, that gradients are wanted for.
  void begin_backward(at::Tensor d_output, at::Tensor d_hidden, std::vector<at::Tensor> parameters);
  // Sums over the blocks, float32; undefined for a parameter that took no part. Once.
  std::vector<at::Tensor> take_gradients();
  // Of a layer's attention, once a block came there; 0: none.
  [[nodiscard]] std::int64_t window(int layer) const { return kinds_[static_cast<std::size_t>(layer)].window; }
  void forget();  // blocks that wait

  std::vector<at::Tensor> forward(int segment, const edge::Where& where, const std::vector<at::Tensor>& reads,
                                  edge::Graph* graph) override;
  std::vector<at::Tensor> backward(int segment, const edge::Where& where, const std::vector<at::Tensor>& reads,
                                   edge::Graph& graph) override;
  [[nodiscard]] bool foreign() const override { return true; }

 private:
  struct Kind {  // of attention, as a block said that came there
    float softcap = 0;
    std::int64_t window = 0;
  };
  at::Tensor rows(const at::Tensor& whole, int block) const;
  std::vector<at::Tensor> before(const edge::Where& where, const at::Tensor& x, edge::Graph& graph);
  void after(const edge::Where& where, const std::vector<at::Tensor>& reads, edge::Graph& graph, bool again);
  // Of the graph's leaves; those of parameters are added to the sums.
  std::vector<at::Tensor> differentiate(edge::Graph& graph, const std::vector<at::Tensor>& of_roots);
  [[nodiscard]] edge::GroupHeads heads(const edge::Where& where) const;  // of a group
  [[nodiscard]] edge::Mask mask(const edge::Where& where) const;

  const model::Dataflow& flow_;
  edge::GroupHeads heads_;  // of a group
  LayerCalls& calls_;
  at::Tensor hidden_, output_, d_output_, d_hidden_;
  std::vector<at::Tensor> parameters_, sums_;
  std::vector<Kind> kinds_;              // of each layer
  std::map<int, at::Tensor> suspended_;  // by block: the x of those that wait at attention
};

}  // namespace memo::plugin
