// A batch's sequences are its first dimension; documents are ranges of tokens.
#include "tests/cuda/torch/sequences.h"

#include <ATen/TensorOperators.h>

namespace memo::cuda::emulated {

std::vector<Sequence> sequences_of(const at::Tensor& starts_q, const at::Tensor& starts_k, std::int64_t batch) {
  std::vector<Sequence> result;
  if (!starts_q.defined()) {
    for (std::int64_t i = 0; i < batch; ++i) result.push_back({.index = i});
    return result;
  }
  const int *q = starts_q.const_data_ptr<int>(), *k = starts_k.const_data_ptr<int>();
  for (std::int64_t i = 0; i + 1 < starts_q.numel(); ++i)
    result.push_back({i, q[i], q[i + 1] - q[i], k[i], k[i + 1] - k[i]});
  return result;
}

at::Tensor rows_of(const at::Tensor& all, const Sequence& sequence, bool keys) {
  if (all.dim() == 4) return all[sequence.index];
  return all.narrow(0, keys ? sequence.first_k : sequence.first_q, keys ? sequence.keys : sequence.rows);
}

std::int64_t rounded(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

}  // namespace memo::cuda::emulated
