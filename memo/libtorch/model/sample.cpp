// Targets and positions of a window of tokens, by its documents.
#include "memo/libtorch/model/sample.h"

#include <ATen/ops/arange.h>

#include <algorithm>

namespace memo::libtorch {

Sample make_sample(const at::Tensor& window, std::vector<std::int64_t> document_starts) {
  const std::int64_t tokens = window.numel() - 1;
  Sample sample{window.narrow(0, 0, tokens), window.narrow(0, 1, tokens), at::arange(tokens, at::kLong),
                std::move(document_starts)};
  if (sample.document_starts.size() < 2) return sample;
  sample.targets = sample.targets.clone();
  auto* target = sample.targets.data_ptr<std::int64_t>();
  auto* position = sample.positions.data_ptr<std::int64_t>();
  for (std::size_t d = 1; d < sample.document_starts.size(); ++d) {
    const std::int64_t begin = sample.document_starts[d];
    const std::int64_t end = d + 1 < sample.document_starts.size() ? sample.document_starts[d + 1] : tokens;
    target[begin - 1] = -1;
    for (std::int64_t t = begin; t < end; ++t) position[t] = t - begin;
  }
  return sample;
}

std::int64_t target_count(const Sample& sample) {
  return sample.tokens.numel() -
         (std::max<std::int64_t>(1, static_cast<std::int64_t>(sample.document_starts.size())) - 1);
}

}  // namespace memo::libtorch
