// One sequence of a step: tokens, targets, positions and documents.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace memo::libtorch {

// [S] int64 each.
struct Sample {
  at::Tensor tokens;
  at::Tensor targets;                         // -1: no loss
  at::Tensor positions;                       // of each token, in its document
  std::vector<std::int64_t> document_starts;  // ascending from 0; empty: the documents are joined
};

// `window` [S + 1] int64: the tokens, and the last one's target. Where `document_starts` is not empty, documents are
// apart: attention stays inside of each, positions count from its first token, and its last token has no loss, since
// its target would be the next document's first token.
Sample make_sample(const at::Tensor& window, std::vector<std::int64_t> document_starts = {});

// The number of tokens that have a loss.
std::int64_t target_count(const Sample& sample);

}  // namespace memo::libtorch
