// The loss of a model over a text, forward only: what more context buys on a user's data.
#pragma once

#include <functional>
#include <vector>

#include "memo/corpus/dataset.h"
#include "memo/libtorch/model/decoder.h"

namespace memo::libtorch {

struct Evaluation {
  std::int64_t windows = 0;
  double loss = 0;                  // mean over all windows and positions, nats per token
  std::vector<double> by_position;  // [S]: mean over the windows
};

struct EvaluationWindows {
  Tokens context, block;
  std::int64_t most = 0;  // windows; 0: all that the data holds whole
};

// Consecutive windows of S + 1 tokens, each of which predicts its last S: they share a token, so that each token is
// predicted once. `on_window(done, of)` after each; it ends the work early by returning false, and means are then over
// those that are done. Holds, besides the weights, for each token of one window: a layer's input, its q, k, v and the
// attention's output. The data must have S + 1 tokens (corpus::Dataset::check_context).
Evaluation evaluate(const Decoder& decoder, const corpus::Dataset& data, const EvaluationWindows& windows,
                    const std::function<bool(std::int64_t, std::int64_t)>& on_window);

// Losses of one window [S + 1] int64, of each predicted token  # [S] float32
at::Tensor window_losses(const Decoder& decoder, const at::Tensor& window, Tokens block);

}  // namespace memo::libtorch
