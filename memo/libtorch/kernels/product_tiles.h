// Products of bfloat16 matrices through tiles of float32, for processors on which LibTorch multiplies bfloat16 slowly,
// those without AVX-512. A tile of each operand is widened, LibTorch's float32 product multiplies them, and a result is
// rounded once, so results are float32 sums of bfloat16 products as elsewhere.
#pragma once

#include <ATen/core/Tensor.h>

namespace memo::libtorch::product_tiles {

// Whether products of these operands go through tiles: bfloat16 on a CPU without AVX-512, as LibTorch reports it
// (at::get_cpu_capability, which ATEN_CPU_CAPABILITY lowers). Not measured, so that noise never changes bits.
bool apply(const at::Tensor& operand);

// c = a b, or c += a b. a [M, K], c [M, N]: bfloat16, rows adjacent. b [K, N]: bfloat16, or the transpose of such rows.
// Allocates up to 4 * 512 * (2 K + 512) bytes.
void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool add);
// gradient += d' x. d [T, N], x [T, K]: bfloat16 rows; gradient [N, K] float32. Allocates up to 4 * 512 * (K + 512)
// bytes.
void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient);

}  // namespace memo::libtorch::product_tiles
