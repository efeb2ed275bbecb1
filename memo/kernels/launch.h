// Launches the kernels on a stream. Shapes and formulas are those of memo/libtorch/kernels/kernels.h; all memory is the
// GPU's. T is float or __nv_bfloat16. A row has less than 2^31 values. A failed launch shows at the stream's next
// check.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "memo/kernels/rows.h"

namespace memo::kernels {

struct Rows {
  std::int64_t rows = 0, columns = 0;
};

// Rows whose weight gradients are summed together.
constexpr std::int64_t rows_of_chunk = 64;

template <class T>
void norm(const T* x, const T* weight, const T* bias, T* y, Rows size, bool layer, float eps, cudaStream_t stream);
// Writes `of_rows` [rows], and `d_weight` and `d_bias` [rows / rows_of_chunk, rounded up, columns]; d_bias may be null.
template <class T>
void norm_backward(const T* x, const T* weight, T* d, Statistics* of_rows, float* d_weight, float* d_bias, Rows size,
                   bool layer, float eps, cudaStream_t stream);

// `size` is that of a. gated: silu(gate) * up; else gelu.
template <class T>
void activation(const T* h, T* a, Rows size, bool gated, cudaStream_t stream);
template <class T>
void activation_backward(const T* h, T* a, T* dh, Rows size, bool gated, cudaStream_t stream);

// Some heads of every row. Arguments x and y point at head 0 of row 0.
template <class T>
struct Heads {
  std::int64_t rows = 0, heads = 0, dim = 0;
  std::int64_t x_row = 0, y_row = 0;   // strides between rows; heads are dim apart
  const float* frequencies = nullptr;  // [dim / 2], on the GPU; null: no rotation
  float rotation_scale = 1;
  const std::int64_t* positions = nullptr;
  const T* weight = nullptr;  // [dim], the norm's; null: no norm
  float eps = 0;
  // Whether both halves of every head can be read and written 16 bytes at a time.
  [[nodiscard]] bool all_wide(const T* x, const T* y) const {
    return kernels::all_wide<T>(dim / 2, x, y, weight) && x_row % wide<T> == 0 && y_row % wide<T> == 0;
  }
};
template <class T>
void turn_heads(const Heads<T>& heads, const T* x, T* y, cudaStream_t stream);
// d is laid out as y, x and dx as x of turn_heads; dx may have a row stride of its own. d_weight [rows, heads, dim]
// where there is a norm.
template <class T>
void turn_heads_backward(const Heads<T>& heads, const T* d, const T* x, T* dx, std::int64_t dx_row, float* d_weight,
                         cudaStream_t stream);

// sum = the sum of x's squares. Both stages add in one order, whatever the GPU.
constexpr std::int64_t square_sums = 512;
void sum_squares(const float* x, std::int64_t count, double* partial, double* sum, cudaStream_t stream);

// *found becomes the least of itself and of base + i, of all words i that have all bits set. For check mode.
void look_for_ones(const Words& words, std::uint64_t base, std::uint64_t* found, cudaStream_t stream);

template <class T>
void cross_entropy(T* logits, const std::int64_t* targets, Rows size, bool in_place, float scale, double* losses,
                   cudaStream_t stream);

// Instantiates the templates above: within the namespace, in each source that defines them.
#define MEMO_KERNELS_OF(T)                                                                                           \
  template void norm(const T*, const T*, const T*, T*, Rows, bool, float, cudaStream_t);                             \
  template void norm_backward(const T*, const T*, T*, Statistics*, float*, float*, Rows, bool, float, cudaStream_t); \
  template void activation(const T*, T*, Rows, bool, cudaStream_t);                                                  \
  template void activation_backward(const T*, T*, T*, Rows, bool, cudaStream_t);                                     \
  template void turn_heads(const Heads<T>&, const T*, T*, cudaStream_t);                                             \
  template void turn_heads_backward(const Heads<T>&, const T*, const T*, T*, std::int64_t, float*, cudaStream_t);    \
  template void cross_entropy(T*, const std::int64_t*, Rows, bool, float, double*, cudaStream_t);

}  // namespace memo::kernels
