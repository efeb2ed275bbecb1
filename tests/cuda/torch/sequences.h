// The sequences of a call of attention: documents of one row of tokens, or a batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace memo::cuda::emulated {

struct Sequence {
  std::int64_t index = 0, first_q = 0, rows = 0, first_k = 0, keys = 0;
};
// Of starts [documents + 1] int32 on the host; undefined: of a batch.
std::vector<Sequence> sequences_of(const at::Tensor& starts_q, const at::Tensor& starts_k, std::int64_t batch);

// A sequence's rows [rows, heads, dim] of an operand [batch, rows, heads, dim] or [tokens, heads, dim].
at::Tensor rows_of(const at::Tensor& all, const Sequence& sequence, bool keys);

std::int64_t rounded(std::int64_t x, std::int64_t to);

}  // namespace memo::cuda::emulated
