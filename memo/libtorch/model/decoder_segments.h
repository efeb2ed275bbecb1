// What each call of a decoder's dataflow does with tensors.
#pragma once

#include <functional>

#include "memo/libtorch/model/decoder.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/libtorch/model/segments.h"
#include "memo/model/dataflow.h"

namespace memo::libtorch {

class DecoderSegments final : public Segments {
 public:
  // `update` is called by the optimizer's calls, `on_host` by those of the host. On a GPU within work that the device
  // runs.
  using Update = std::function<void(const StateGroup&, bool on_host)>;
  DecoderSegments(const model::Dataflow& flow, const Decoder& decoder, Update update, at::Device device = at::kCPU);

  std::vector<at::Tensor> forward(model::SegmentIndex segment, const Where& where, const std::vector<at::Tensor>& reads,
                                  Graph* graph) override;
  std::vector<at::Tensor> backward(model::SegmentIndex segment, const Where& where,
                                   const std::vector<at::Tensor>& reads, Graph& graph) override;
  [[nodiscard]] double loss() const override { return loss_sum.value(); }

  LossSum loss_sum;       // summed by the loss calls since it was last reset
  double loss_scale = 1;  // weight of a target's loss in gradients: 1 / the number of targets of a step

 private:
  [[nodiscard]] model::SegmentRole role(model::SegmentIndex segment) const { return flow_.segments[segment].role; }
  [[nodiscard]] bool has_graph(model::SegmentIndex segment) const;

  const model::Dataflow& flow_;
  const Decoder& decoder_;
  Update update_;
};

}  // namespace memo::libtorch
