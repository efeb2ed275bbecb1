// Shares rows among threads and chooses element types, for this folder's kernels.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>

#include <algorithm>

#include "memo/base/check.h"

namespace memo::libtorch {

// Calls f(begin, end) over rows, in parallel where there is enough work for a second thread.
template <class F>
void for_rows(std::int64_t rows, std::int64_t columns, const F& f) {
  constexpr std::int64_t least_elements = 16384;
  at::parallel_for(0, rows, std::max<std::int64_t>(1, least_elements / std::max<std::int64_t>(1, columns)), f);
}

// Calls f(T{}) with the element type of `tensor`.
template <class F>
void with_type(const at::Tensor& tensor, const F& f) {
  if (tensor.scalar_type() == at::kFloat) return f(float{});
  MEMO_CHECK(tensor.scalar_type() == at::kBFloat16, "a tensor of the decoder is float32 or bfloat16");
  f(c10::BFloat16{});
}

template <class T>
const T* in(const at::Tensor& tensor) {
  return tensor.const_data_ptr<T>();
}
template <class T>
T* out(const at::Tensor& tensor) {
  return tensor.mutable_data_ptr<T>();
}

}  // namespace memo::libtorch
