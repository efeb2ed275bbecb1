// A decoder layer on one GPU of a setup: its tensors' sizes and its calls' times.
#pragma once

#include "memo/estimate/kernels.h"
#include "memo/model/dataflow.h"
#include "memo/model/device_sizes.h"

namespace memo::estimate {

// Bytes per token on one GPU: tensors that a module saves for backward beyond the inputs and outputs in the dataflow's
// table, and its transients.
struct Footprint {
  double saved = 0;
  double forward = 0, backward = 0;  // transients
};

class Layer {
 public:
  explicit Layer(const Setup& setup);

  // The table for this GPU's share of the model.
  [[nodiscard]] model::Dataflow dataflow() const;
  // Time of one call of a segment for this many tokens. For core attention: one head group, and the first `tokens` of
  // this GPU's share of the sequence. For updates: one step, whatever the tokens.
  [[nodiscard]] Split time(const model::Segment& segment, bool backward, Tokens tokens) const;
  [[nodiscard]] Footprint footprint(const model::Segment& segment) const;
  [[nodiscard]] double loss_tile() const;  // rows
  // Transients of a loss call: its logits.
  [[nodiscard]] Bytes loss_transients(Tokens tokens) const;

  // Numbers of parameters of one layer before and after core attention, and of all parameters outside of layers, on one
  // GPU before sharding.
  [[nodiscard]] double before_parameters() const { return before_parameters_; }
  [[nodiscard]] double after_parameters() const { return after_parameters_; }
  [[nodiscard]] double layer_parameters() const { return before_parameters_ + after_parameters_; }
  [[nodiscard]] double other_parameters() const { return other_parameters_; }

 private:
  [[nodiscard]] Tokens run_block() const;  // of Memo's executor
  [[nodiscard]] double gradient_traffic(double parameters, double rows) const;
  [[nodiscard]] Footprint block_footprint(const model::Segment& segment) const;
  [[nodiscard]] Split core_time(bool backward, Tokens tokens) const;
  [[nodiscard]] Split update_time(const model::Segment& segment) const;
  [[nodiscard]] double gather_left(bool backward) const;
  [[nodiscard]] bool eager_norm() const;  // runs as several kernels, in float32

  const Setup& setup_;
  int tensor_, groups_ = 1;                            // head groups
  double element_;                                     // bytes of an element
  double query_, key_, inner_, ffn_, hidden_, vocab_;  // columns on this GPU
  double rows_of_;                                     // share of token-wise rows on a tensor parallel rank
  double before_parameters_, after_parameters_, other_parameters_;
};

}  // namespace memo::estimate
