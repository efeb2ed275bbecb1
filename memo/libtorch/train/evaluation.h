// The loss of a model over a text, forward only: it shows what more context buys on a user's data.
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
  std::int64_t most = 0;  // number of windows; 0: as many as the data holds
};

// Evaluates consecutive windows of S + 1 tokens, each of which predicts its last S. Neighbours share a token, so each
// token is predicted once. `on_window(done, of)` is called after each window; when it returns false, the work ends and
// means are over the windows so far. Besides the weights, memory holds for each token of one window: a layer's input,
// its q, k, v and the attention's output. The data must have S + 1 tokens (corpus::Dataset::check_context).
Evaluation evaluate(const Decoder& decoder, const corpus::Dataset& data, const EvaluationWindows& windows,
                    const std::function<bool(std::int64_t, std::int64_t)>& on_window);

// The losses [S] float32 of one window [S + 1] int64.
at::Tensor window_losses(const Decoder& decoder, const at::Tensor& window, Tokens block);

}  // namespace memo::libtorch
