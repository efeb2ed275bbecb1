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
  // `update` is called by the optimizer's calls.
  using Update = std::function<void(const StateGroup&)>;
  DecoderSegments(const model::Dataflow& flow, const Decoder& decoder, Update update);

  std::vector<at::Tensor> forward(int segment, const Where& where, const std::vector<at::Tensor>& reads,
                                  Graph* graph) override;
  std::vector<at::Tensor> backward(int segment, const Where& where, const std::vector<at::Tensor>& reads,
                                   Graph& graph) override;
  [[nodiscard]] double loss() const override { return loss_sum.value(); }

  LossSum loss_sum;       // summed by the loss calls since it was last reset
  double loss_scale = 1;  // weight of a target's loss in gradients: 1 / the number of targets of a step

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
  // Whether the segment's backward call follows autograd's graph.
  [[nodiscard]] bool has_graph(int segment) const;

  std::vector<Kind> kinds_;
  int groups_;
  const Decoder& decoder_;
  Update update_;
};

}  // namespace memo::libtorch
