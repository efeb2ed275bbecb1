// Products with another type of output, which the CPU has not (aten/src/ATen/native/cuda/Blas.cpp,
// addmm_out_cuda_impl, cublasCommonArgs): cuBLAS reads its addend in place, takes copies of operands whose rows and
// columns both have gaps, and has its workspace since the stream's first product.
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

#include <algorithm>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using at::Tensor;

void check(const Tensor& a, const Tensor& b, at::ScalarType dtype, const Tensor& out) {
  TORCH_CHECK(a.device() == b.device() && a.device() == out.device(), "products are of one device");
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "expected mat1 and mat2 to have the same dtype");
  TORCH_CHECK(dtype == a.scalar_type() ||
                  (dtype == at::kFloat && (a.scalar_type() == at::kHalf || a.scalar_type() == at::kBFloat16)),
              "out_dtype must be the same as input dtype or fp32 for fp16/bf16 inputs");
  TORCH_CHECK(out.scalar_type() == dtype, "out_dtype must be the same as the dtype of the provided out tensor");
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2, "mat1 and mat2 must be matrices");
  TORCH_CHECK(a.size(1) == b.size(0), "mat1 and mat2 shapes cannot be multiplied");
}

// prepare_matrix_for_cublas: one dimension without gaps, the other at least as wide.
Tensor operand(const Tensor& matrix) {
  const auto rows = matrix.size(0), columns = matrix.size(1), down = matrix.stride(0), across = matrix.stride(1);
  const auto at_least_1 = [](std::int64_t n) { return std::max<std::int64_t>(n, 1); };
  const bool fits = (down == 1 && across >= at_least_1(rows)) || (across == 1 && down >= at_least_1(columns));
  return fits ? matrix : matrix.clone(at::MemoryFormat::Contiguous);
}

Tensor& mm_out(const Tensor& a, const Tensor& b, at::ScalarType dtype, Tensor& out) {
  check(a, b, dtype, out);
  const Current there(a.device());
  const Tensor left = operand(a), right = operand(b);
  enqueue(a, "aten::mm.dtype_out", [a = on_host(left), b = on_host(right), out = on_host(out), dtype]() mutable {
    at::mm_out(out, a.to(dtype), b.to(dtype));
  });
  return out;
}

Tensor mm(const Tensor& a, const Tensor& b, at::ScalarType dtype) {
  Tensor out = at::empty({a.size(0), b.size(1)}, a.options().dtype(dtype));
  return mm_out(a, b, dtype, out);
}

Tensor& addmm_out(const Tensor& self, const Tensor& a, const Tensor& b, at::ScalarType dtype, const at::Scalar& beta,
                  const at::Scalar& alpha, Tensor& out) {
  check(a, b, dtype, out);
  TORCH_CHECK(self.scalar_type() == dtype || self.scalar_type() == a.scalar_type(),
              "self dtype must match either out_dtype or mat1 dtype");
  const Current there(a.device());
  const Tensor left = operand(a), right = operand(b);
  enqueue(a, "aten::addmm.dtype_out",
          [self = on_host(self), a = on_host(left), b = on_host(right), out = on_host(out), dtype, beta,
           alpha]() mutable { at::addmm_out(out, self.to(dtype), a.to(dtype), b.to(dtype), beta, alpha); });
  return out;
}

Tensor addmm(const Tensor& self, const Tensor& a, const Tensor& b, at::ScalarType dtype, const at::Scalar& beta,
             const at::Scalar& alpha) {
  Tensor out = at::empty({a.size(0), b.size(1)}, a.options().dtype(dtype));
  return addmm_out(self, a, b, dtype, beta, alpha, out);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("mm.dtype", &mm);
  m.impl("mm.dtype_out", &mm_out);
  m.impl("addmm.dtype", &addmm);
  m.impl("addmm.dtype_out", &addmm_out);
}

}  // namespace memo::cuda::emulated
