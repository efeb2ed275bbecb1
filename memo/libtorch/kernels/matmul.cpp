// The matrix products. ATen's products run in place on strided operands without temporaries; only the sum of bfloat16
// products in a float32 gradient has no operator in ATen. Where ATen multiplies bfloat16 slowly, product_tiles.h does.
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/kernels/product_tiles.h"
#include "memo/libtorch/kernels/table.h"

// From the BLAS inside LibTorch (oneMKL reference, cblas_gemm_bf16bf16f32); LibTorch installs no header for it.
extern "C" void cblas_gemm_bf16bf16f32(int layout, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                                       const c10::BFloat16* a, int lda, const c10::BFloat16* b, int ldb, float beta,
                                       float* c, int ldc);

namespace memo::libtorch {

void linear(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y) {
  if (product_tiles::apply(x)) return product_tiles::multiply(x, weight.t(), y, false);
  at::mm_out(y, x, weight.t());
}

void add_linear(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y) {
  if (product_tiles::apply(x)) return product_tiles::multiply(x, weight.t(), y, true);
  at::addmm_out(y, y, x, weight.t());
}

void linear_backward(const at::Tensor& d, const at::Tensor& weight, at::Tensor& dx) {
  if (product_tiles::apply(d)) return product_tiles::multiply(d, weight, dx, false);
  at::mm_out(dx, d, weight);
}

namespace on_cpu {

void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient) {
  if (d.scalar_type() == at::kFloat) {
    at::addmm_out(gradient, gradient, d.t(), x);
    return;
  }
  if (product_tiles::apply(d)) return product_tiles::add_weight_gradient(d, x, gradient);
  constexpr int row_major = 101, plain = 111, transposed = 112;
  cblas_gemm_bf16bf16f32(row_major, transposed, plain, static_cast<int>(d.size(1)), static_cast<int>(x.size(1)),
                         static_cast<int>(d.size(0)), 1.0f, d.const_data_ptr<c10::BFloat16>(),
                         static_cast<int>(d.stride(0)), x.const_data_ptr<c10::BFloat16>(),
                         static_cast<int>(x.stride(0)), 1.0f, gradient.mutable_data_ptr<float>(),
                         static_cast<int>(gradient.stride(0)));
}

}  // namespace on_cpu

void matmul_on_cpu(Kernels& table) { table.add_weight_gradient = on_cpu::add_weight_gradient; }

}  // namespace memo::libtorch
