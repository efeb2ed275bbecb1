// What one sequence of a step is made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace memo::edge {

// Documents are apart when `starts` is not empty: attention stays inside of each, positions count from its first token,
// and its last token, which would predict the next document's first, has no loss.
struct Sample {
  at::Tensor window;                 // [S + 1] int64: tokens, and the last one's target
  std::vector<std::int64_t> starts;  // of the documents in the first S tokens, ascending from 0
};

// Of the S tokens of `sample`, [S] int64 each.
at::Tensor positions(const Sample& sample);
at::Tensor targets(const Sample& sample);  // -1: no loss
// How many have a loss.
std::int64_t target_count(const Sample& sample);

}  // namespace memo::edge
