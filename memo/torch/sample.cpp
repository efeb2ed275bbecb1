#include "memo/torch/sample.h"

#include <ATen/ops/arange.h>

namespace memo::edge {

at::Tensor positions(const Sample& sample) {
  at::Tensor result = at::arange(sample.window.numel() - 1, at::kLong);
  auto* position = result.data_ptr<std::int64_t>();
  for (std::size_t d = 1; d < sample.starts.size(); ++d) {
    const std::int64_t end = d + 1 < sample.starts.size() ? sample.starts[d + 1] : result.numel();
    for (std::int64_t t = sample.starts[d]; t < end; ++t) position[t] = t - sample.starts[d];
  }
  return result;
}

at::Tensor targets(const Sample& sample) {
  const at::Tensor following = sample.window.narrow(0, 1, sample.window.numel() - 1);
  if (sample.starts.size() < 2) return following;
  at::Tensor result = following.clone();
  for (std::size_t d = 1; d < sample.starts.size(); ++d) result.data_ptr<std::int64_t>()[sample.starts[d] - 1] = -1;
  return result;
}

std::int64_t target_count(const Sample& sample) {
  const auto documents = static_cast<std::int64_t>(sample.starts.size());
  return sample.window.numel() - 1 - (documents > 1 ? documents - 1 : 0);
}

}  // namespace memo::edge
