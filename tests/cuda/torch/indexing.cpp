// Sums at indices and norms, with the temporaries of CUDA's: index_put_ sorts its indices
// (aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel), and a norm in another type has a whole copy
// (aten/src/ATen/native/ReduceOpsUtils.h, make_reduction).
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/_index_put_impl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <torch/library.h>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;
using Indices = c10::List<std::optional<Tensor>>;

// Asks for what the sort of rows of `self` asks for; the bytes of cub's radix sort are those of its two buffers.
void sort_as_cuda_does(const Tensor& self, const Tensor& index) {
  const std::int64_t rows = self.size(0), slice = self.stride(0);
  at::_assert_async(index.max() < rows);
  at::_assert_async(index.min() >= -rows);
  Tensor linear = index.remainder(rows) * slice;
  const Tensor sorted = at::empty_like(linear), original = at::empty_like(linear);
  linear.divide_(slice, "trunc");
  const Tensor range = at::arange(linear.numel(), linear.options());
  const Tensor buffers = at::empty({2 * linear.numel()}, linear.options());
}

Tensor& index_put(Tensor& self, const Indices& indices, const Tensor& values, bool accumulate, bool unsafe) {
  const std::optional<Tensor> first = indices.size() == 1 ? indices.get(0) : std::nullopt;
  const bool rows = first && ours(*first) && first->scalar_type() == at::kLong && self.is_contiguous();
  if (!accumulate || !rows) {
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::_index_put_impl_", "");
    torch::jit::Stack stack{self, indices, values, accumulate, unsafe};
    fallback(op, &stack);
    return self;
  }
  TORCH_CHECK(self.device() == values.device() || values.dim() == 0, "values are on the device of self");
  TORCH_CHECK(self.scalar_type() == values.scalar_type(), "Index put requires the source and destination dtypes match");
  const Current there(self.device());
  if (first->numel() > 0) sort_as_cuda_does(self, *first);
  enqueue(self, "aten::_index_put_impl_",
          [to = on_host(self), index = on_host(*first), from = on_host(values)]() mutable {
            at::_index_put_impl_(to, Indices({std::optional<Tensor>(index)}), from, /*accumulate=*/true);
          });
  return self;
}

Tensor& vector_norm(const Tensor& self, const at::Scalar& order, at::OptionalIntArrayRef dim, bool keepdim,
                    std::optional<at::ScalarType> dtype, Tensor& out) {
  const bool low = self.scalar_type() == at::kBFloat16 || self.scalar_type() == at::kHalf;
  const at::ScalarType in = dtype.value_or(self.scalar_type());
  const Tensor copy = in == self.scalar_type() || (low && in == at::kFloat) ? self : self.to(in);
  std::optional<std::vector<std::int64_t>> dims;
  if (dim) dims = dim->vec();
  enqueue(self, "aten::linalg_vector_norm.out",
          [from = on_host(copy), to = on_host(out), order, dims, keepdim, dtype]() mutable {
            at::linalg_vector_norm_out(
                to, from, order, dims ? at::OptionalIntArrayRef(*dims) : at::OptionalIntArrayRef(), keepdim, dtype);
          });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_index_put_impl_", &index_put);
  m.impl("linalg_vector_norm.out", &vector_norm);
}

}  // namespace memo::cuda::emulated
