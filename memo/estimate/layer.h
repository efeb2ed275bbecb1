// A decoder layer on one GPU of a setup: the sizes of its tensors, and the time of each of its calls.
#pragma once

#include "memo/estimate/kernels.h"
#include "memo/model/dataflow.h"

namespace memo::estimate {

// What a module saves for backward beyond the inputs and outputs in the dataflow's table, and what it allocates while
// it runs. Bytes per token, on one GPU.
struct Footprint {
  double saved = 0;
  double forward = 0, backward = 0;  // transients
};

class Layer {
 public:
  explicit Layer(const Setup& setup);

  // The table of this GPU's share of the model.
  [[nodiscard]] model::Dataflow dataflow() const;
  // Time of one call of a segment for so many tokens; of core attention, of one head group for the first `tokens` of
  // this GPU's share of the sequence.
  [[nodiscard]] Split time(const model::Segment& segment, bool backward, Tokens tokens) const;
  [[nodiscard]] Footprint footprint(const model::Segment& segment) const;
  // Of a call that is not of a layer, beside what grows with its tokens: the loss's logits.
  [[nodiscard]] Bytes loss_transients(Tokens tokens) const;

  // Parameters of one layer before and after core attention, and of all that is of no layer, on one GPU before they are
  // shared out.
  [[nodiscard]] double before_parameters() const { return before_parameters_; }
  [[nodiscard]] double after_parameters() const { return after_parameters_; }
  [[nodiscard]] double layer_parameters() const { return before_parameters_ + after_parameters_; }
  [[nodiscard]] double other_parameters() const { return other_parameters_; }

 private:
  [[nodiscard]] Footprint block_footprint(const model::Segment& segment) const;
  [[nodiscard]] Split core_time(bool backward, Tokens tokens) const;
  [[nodiscard]] double gather_left(bool backward) const;
  [[nodiscard]] bool eager_norm() const;  // several kernels, in float32

  const Setup& setup_;
  int tensor_, groups_ = 1;
  double element_;                                     // bytes
  double query_, key_, inner_, ffn_, hidden_, vocab_;  // columns on this GPU
  double rows_of_;                                     // tokens of token-wise work that a tensor parallel rank has
  double before_parameters_, after_parameters_, other_parameters_;
};

}  // namespace memo::estimate
