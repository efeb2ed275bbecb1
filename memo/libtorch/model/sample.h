// What one sequence of a step is made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace memo::libtorch {

// [S] int64 each.
struct Sample {
  at::Tensor tokens;
  at::Tensor targets;                         // -1: no loss there
  at::Tensor positions;                       // of each token in its document
  std::vector<std::int64_t> document_starts;  // ascending from 0; empty: the documents are joined
};

// `window` [S + 1] int64: tokens, and the last one's target. Documents are apart when `document_starts` is not empty:
// attention stays inside of each, positions count from its first token, and its last token, which would predict the
// next document's first, has no loss.
Sample make_sample(const at::Tensor& window, std::vector<std::int64_t> document_starts = {});

// How many tokens have a loss.
std::int64_t target_count(const Sample& sample);

}  // namespace memo::libtorch
