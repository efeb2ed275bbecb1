// Operators over many rows or tensors at once: norms of a list (aten/src/ATen/native/cuda/ForeachReduceOp.cu), and the
// gradient of an embedding, which CUDA sorts like index_put_ does, so that its sums have one order
// (native/cuda/Embedding.cu, EmbeddingBackwardKernel.cu).
#include <ATen/OpMathType.h>
#include <ATen/native/ForeachUtils.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda/torch/cub.h"
#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;

// A chunk of 65536 elements has one part of its tensor's norm.
std::vector<Tensor> norms(at::TensorList tensors, const at::Scalar& order, std::optional<at::ScalarType> dtype) {
  at::native::check_foreach_api_restrictions(tensors);
  const double p = order.toDouble();
  const bool known = p == 1 || p == 2 || std::isinf(p);
  if (!known || p < 0 || !at::native::can_use_fast_route(tensors) || !at::isFloatingType(tensors[0].scalar_type())) {
    std::vector<Tensor> one_by_one;
    for (const Tensor& t : tensors) one_by_one.push_back(at::linalg_vector_norm(t, order, {}, false, dtype));
    return one_by_one;
  }
  const Current there(tensors[0].device());
  std::int64_t chunks = 0;
  for (const Tensor& t : tensors) chunks = std::max(chunks, (t.numel() + 65535) / 65536);
  const auto options = tensors[0].options().dtype(dtype.value_or(tensors[0].scalar_type()));
  const at::ScalarType summed = at::toOpMathType(options.dtype().toScalarType());
  const Tensor parts = at::zeros({static_cast<std::int64_t>(tensors.size()) * chunks}, options.dtype(summed));
  std::vector<Tensor> results;
  for (std::size_t i = 0; i < tensors.size(); ++i) results.push_back(at::empty({}, options));
  for (std::size_t i = 0; i < tensors.size(); ++i)
    enqueue(tensors[0], "aten::_foreach_norm", [from = on_host(tensors[i]), to = on_host(results[i]), order, summed] {
      to.copy_(at::linalg_vector_norm(from, order, {}, false, summed));
    });
  return results;
}

Tensor embedding_gradient(const Tensor& given_d, const Tensor& given_indices, std::int64_t rows, std::int64_t padding,
                          bool by_frequency) {
  TORCH_CHECK(given_indices.scalar_type() == at::kLong || given_indices.scalar_type() == at::kInt,
              "Expected tensor for argument #2 'indices' to have one of the following scalar types: Long, Int");
  TORCH_CHECK(given_d.device() == given_indices.device(), "grad and indices are on one device");
  const Current there(given_d.device());
  const Tensor indices = given_indices.contiguous();
  const std::int64_t count = indices.numel(), width = given_d.size(-1);
  const Tensor d = given_d.contiguous().view({count, width});
  const auto bytes = indices.options().dtype(at::kByte);
  Tensor result;
  std::vector<Tensor> held;
  const auto ask = [&](const Tensor& temporary) { held.push_back(temporary); };
  if (count <= 3072 && !by_frequency) {
    result = at::zeros({rows, width}, given_d.options());
  } else {
    ask(at::empty_like(indices));  // sorted
    ask(at::empty_like(indices));  // where these were
    {
      const Tensor range = at::arange(count, indices.options());
      const Tensor buffers = at::empty({radix_sort_bytes(count, 64)}, bytes);
    }
    if (by_frequency) {
      ask(at::empty_like(indices));
      for (int scan = 0; scan < 2; ++scan) const Tensor buffers = at::empty({scan_bytes(count)}, bytes);
    }
    result = at::zeros({rows, width}, given_d.options());
    const std::int64_t most = std::min(count, rows), parts = count / 10 + most;  // segments; parts of 10 rows
    const auto number = given_d.options().dtype(at::kLong);
    ask(at::empty({count}, indices.options()));
    ask(at::empty({}, number));
    static_cast<void>(at::empty({scan_bytes(count)}, bytes));
    ask(at::empty({most}, indices.options()));
    ask(at::empty({most}, indices.options()));
    static_cast<void>(at::empty({scan_bytes(most)}, bytes));
    ask(at::empty({}, number));
    ask(at::empty({parts}, indices.options()));
    ask(at::empty({parts, width}, given_d.options().dtype(at::toOpMathType(given_d.scalar_type()))));
  }
  enqueue(given_d, "aten::embedding_dense_backward",
          [d = on_host(d), indices = on_host(indices), to = on_host(result), rows, padding, by_frequency] {
            const Tensor sums = d.to(at::toOpMathType(d.scalar_type()));  // rounded once
            to.copy_(at::embedding_dense_backward(sums, indices.view(-1), rows, padding, by_frequency));
          });
  return result;
}

Tensor embedding_gradient_of(const Tensor& d, const Tensor& indices, c10::SymInt rows, c10::SymInt padding,
                             bool by_frequency) {
  return embedding_gradient(d, indices, rows.expect_int(), padding.expect_int(), by_frequency);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("_foreach_norm.Scalar", &norms);
  m.impl("embedding_dense_backward", &embedding_gradient_of);
}

}  // namespace memo::cuda::emulated
