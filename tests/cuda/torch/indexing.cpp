// Writing and adding at indices, with the temporaries of CUDA's: index_put_ that accumulates sorts its indices, so that
// its sums have one order; index_add_ and scatter_add_ add by atomics unless determinism is asked for
// (aten/src/ATen/native/cuda/Indexing.cu, native/TensorAdvancedIndexing.cpp).
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/IndexingUtils.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/_index_put_impl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/scatter_add.h>
#include <ATen/ops/tensor.h>
#include <torch/library.h>

#include "tests/cuda/torch/cub.h"
#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;
using Indices = c10::List<std::optional<Tensor>>;

// Indices into a tensor's elements as if it were contiguous, and the elements behind each.
struct Linear {
  Tensor self, index;
  std::int64_t slice = 1;
  std::vector<std::int64_t> shape;  // of the values
};

Linear linear_of(const Tensor& self, const Indices& given, bool check) {
  at::native::checkIndexTensorTypes(given, /*allow_int=*/true);
  std::vector<Tensor> indices = at::native::expandTensors(self, given);
  for (Tensor& index : indices)
    if (index.defined() && index.scalar_type() == at::kInt) index = index.to(at::kLong);
  indices = at::expand_outplace(indices);
  indices.resize(static_cast<std::size_t>(self.dim()));
  Linear result{self, {}, 1, {}};
  if (!at::native::hasContiguousSubspace(indices))
    std::tie(result.self, indices) = at::native::transposeToFront(self, indices);
  std::vector<std::int64_t> behind;
  std::int64_t stride = result.self.numel();
  for (std::int64_t d = 0; d < result.self.dim(); ++d) {
    const Tensor& index = indices[static_cast<std::size_t>(d)];
    const std::int64_t size = result.self.size(d);
    stride = size == 0 ? 0 : stride / size;
    if (!index.defined()) {
      (result.index.defined() ? behind : result.shape).push_back(size);
      if (result.index.defined()) result.slice *= size;
      continue;
    }
    if (check && index.numel() > 0) {
      at::_assert_async(index.max() < size);
      at::_assert_async(index.min() >= -size);
    }
    const Tensor part = (index.remainder(size) * stride).to(self.device());
    if (result.index.defined())
      result.index += part;
    else
      result.index = part;
  }
  result.shape.insert(result.shape.end(), result.index.sizes().begin(), result.index.sizes().end());
  result.shape.insert(result.shape.end(), behind.begin(), behind.end());
  return result;
}

// Asks for what index_put_with_sort_kernel asks for, in its order.
void sort_as_cuda_does(const Tensor& self, const Indices& indices, const Tensor& values, bool unsafe) {
  const Tensor whole = self.contiguous();
  Linear linear = linear_of(whole, indices, !unsafe);
  const Tensor expanded = values.expand(linear.shape).contiguous();
  const std::int64_t count = linear.index.numel();
  if (count == 0 || linear.slice == 0) return;
  const Tensor permuted = linear.self.contiguous();
  Tensor index = linear.index.reshape(-1);
  const Tensor sorted = at::empty_like(index), original = at::empty_like(index);
  index.divide_(linear.slice, "trunc");
  const Tensor range = at::arange(count, index.options());
  const int bits = bits_of((whole.numel() - 1) / linear.slice);
  const Tensor buffers = at::empty({radix_sort_bytes(count, bits)}, index.options().dtype(at::kByte));
}

Tensor& index_put(Tensor& self, const Indices& indices, const Tensor& given, bool accumulate, bool unsafe) {
  const bool sorts = accumulate || (at::globalContext().deterministicAlgorithms() && given.numel() > 1);
  const Current there(self.device());
  if (!sorts) {
    static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::_index_put_impl_", "");
    torch::jit::Stack stack{self, indices, given, accumulate, unsafe};
    fallback(op, &stack);
    return self;
  }
  const Tensor values = given.dim() == 0 && given.device() != self.device() ? given.to(self.device()) : given;
  TORCH_CHECK(self.device() == values.device(), "expected device ", self.device(), " but got device ", values.device(),
              " for value tensor");
  TORCH_CHECK(self.scalar_type() == values.scalar_type(), "Index put requires the source and destination dtypes match");
  sort_as_cuda_does(self, indices, values, unsafe);
  Indices here;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const std::optional<Tensor> index = indices.get(i);
    here.push_back(index && ours(*index) ? std::optional(on_host(*index)) : index);
  }
  enqueue(self, "aten::_index_put_impl_", [to = on_host(self), here, from = on_host(values), accumulate]() mutable {
    at::_index_put_impl_(to, here, from, accumulate);
  });
  return self;
}

Indices at_dimension(std::int64_t dim, const Tensor& index) {
  Indices indices;
  for (std::int64_t d = 0; d < dim; ++d) indices.push_back(std::nullopt);
  indices.push_back(index);
  return indices;
}

Tensor some_order(std::int64_t count, std::uint64_t order) {
  return at::randperm(count, at::make_generator<at::CPUGeneratorImpl>(order), at::dtype(at::kLong).device(at::kCPU));
}

Tensor& index_add(const Tensor& self, std::int64_t dim, const Tensor& index, const Tensor& source,
                  const at::Scalar& alpha, Tensor& out) {
  const Current there(self.device());
  if (!out.is_same(self)) out.copy_(self);
  TORCH_CHECK(index.device() == self.device() && source.device() == self.device(), "index_add is of one device");
  const std::int64_t wrapped = at::maybe_wrap_dim(dim, self.dim());
  if (at::globalContext().deterministicAlgorithms()) {
    out.index_put_(at_dimension(wrapped, index.to(at::kLong)), source * alpha, /*accumulate=*/true);
    return out;
  }
  enqueue(self, "aten::index_add.out",
          [to = on_host(out), wrapped, index = on_host(index).reshape(-1), from = on_host(source), alpha,
           order = another_order()]() mutable {
            const Tensor in_order = some_order(index.numel(), order);
            to.index_add_(wrapped, index.index_select(0, in_order),
                          from.dim() == 0 ? from : from.index_select(wrapped, in_order), alpha);
          });
  return out;
}

// As _scatter_via_index_put: the coordinates of every element, and their linear indices.
void scatter_in_order(std::int64_t dim, const Tensor& index, const Tensor& source, Tensor& out) {
  if (out.dim() <= 1) {
    out.index_put_(at_dimension(0, index), source, /*accumulate=*/true);
    return;
  }
  Tensor whole = out.contiguous();
  std::vector<std::int64_t> sizes = index.sizes().vec();
  sizes.push_back(out.dim());
  const Tensor coordinates = at::empty(sizes, index.options().dtype(at::kLong));
  for (std::int64_t d = 0; d < out.dim(); ++d) {
    if (d == dim) continue;
    std::vector<std::int64_t> along(static_cast<std::size_t>(out.dim()), 1);
    along[static_cast<std::size_t>(d)] = index.size(d);
    coordinates.select(-1, d).copy_(at::arange(index.size(d), coordinates.options()).view(along));
  }
  coordinates.select(-1, dim).copy_(index);
  const Tensor strides = at::tensor(whole.strides(), at::kLong).to(out.device());
  const Tensor linear = (coordinates.flatten(0, -2) * strides).sum({-1});
  const Tensor values = source.as_strided(index.sizes(), source.strides()).flatten();
  Tensor flat = whole.flatten();
  flat.index_put_(at_dimension(0, linear), values, /*accumulate=*/true);
  if (!out.is_contiguous()) out.copy_(flat.reshape(out.sizes()));
}

Tensor& scatter_add(const Tensor& self, std::int64_t dim, const Tensor& index, const Tensor& source, Tensor& out) {
  const Current there(self.device());
  if (!out.is_same(self)) out.copy_(self);
  if (index.numel() == 0) return out;
  TORCH_CHECK(index.device() == self.device() && source.device() == self.device(), "scatter_add is of one device");
  const std::int64_t wrapped = at::maybe_wrap_dim(dim, self.dim());
  if (at::globalContext().deterministicAlgorithms()) {
    scatter_in_order(wrapped, index, source, out);
    return out;
  }
  enqueue(
      self, "aten::scatter_add.out",
      [to = on_host(out), wrapped, index = on_host(index), from = on_host(source), order = another_order()]() mutable {
        if (index.dim() == 0) return static_cast<void>(to.scatter_add_(wrapped, index, from));
        const Tensor in_order = some_order(index.size(wrapped), order);
        to.scatter_add_(wrapped, index.index_select(wrapped, in_order),
                        from.as_strided(index.sizes(), from.strides()).index_select(wrapped, in_order));
      });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_index_put_impl_", &index_put);
  m.impl("index_add.out", &index_add);
  m.impl("scatter_add.out", &scatter_add);
}

}  // namespace memo::cuda::emulated
