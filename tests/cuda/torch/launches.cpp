// Memo's kernels (memo/kernels/launch.h) on the emulated GPU: the mathematics of rows.h, by a team of one.
#include <algorithm>

#include "memo/kernels/launch.h"
#include "memo/kernels/rows.h"
#include "tests/cuda/torch/device.h"

namespace memo::kernels {
namespace {

template <class T>
T* here(T* there) {
  return static_cast<T*>(cuda::emulated::host_address(there));
}

template <class T>
Heads<T> here(Heads<T> heads) {
  heads.frequencies = here(heads.frequencies);
  heads.positions = here(heads.positions);
  heads.weight = here(heads.weight);
  return heads;
}

template <class T>
Head<T> head_of(const Heads<T>& heads, std::int64_t row) {
  return {heads.frequencies,
          heads.rotation_scale,
          heads.frequencies == nullptr ? 0 : heads.positions[row],
          heads.weight,
          heads.eps,
          heads.dim};
}

}  // namespace

using cuda::emulated::launch;

template <class T>
void norm(const T* x, const T* weight, const T* bias, T* y, Rows size, bool layer, float eps, cudaStream_t stream) {
  launch(stream, [=, x = here(x), weight = here(weight), bias = here(bias), y = here(y)] {
    for (std::int64_t r = 0; r < size.rows; ++r)
      norm_row(HostTeam{}, x + r * size.columns, weight, bias, y + r * size.columns, size.columns, layer, eps);
  });
}

template <class T>
void norm_backward(const T* x, const T* weight, T* d, Statistics* of_rows, float* d_weight, float* d_bias, Rows size,
                   bool layer, float eps, cudaStream_t stream) {
  launch(stream, [=, x = here(x), weight = here(weight), d = here(d), of_rows = here(of_rows),
                  d_weight = here(d_weight), d_bias = here(d_bias)] {
    const std::int64_t columns = size.columns;
    for (std::int64_t r = 0; r < size.rows; ++r)
      of_rows[r] = statistics(HostTeam{}, x + r * columns, columns, layer, eps);
    for (std::int64_t first = 0, chunk = 0; first < size.rows; first += rows_of_chunk, ++chunk)
      for (std::int64_t i = 0; i < columns; ++i)
        norm_column(x + first * columns, d + first * columns, of_rows + first,
                    std::min(rows_of_chunk, size.rows - first), columns, i, d_weight + chunk * columns,
                    d_bias == nullptr ? nullptr : d_bias + chunk * columns);
    for (std::int64_t r = 0; r < size.rows; ++r)
      norm_backward_row(HostTeam{}, x + r * columns, weight, d + r * columns, of_rows[r], columns, layer);
  });
}

template <class T>
void activation(const T* h, T* a, Rows size, bool gated, cudaStream_t stream) {
  launch(stream, [=, h = here(h), a = here(a)] {
    for (std::int64_t i = 0; i < size.rows * size.columns; ++i)
      if (gated)
        silu_value(h, a, size.columns, i / size.columns, i % size.columns);
      else
        gelu_value(h, a, i);
  });
}

template <class T>
void activation_backward(const T* h, T* a, T* dh, Rows size, bool gated, cudaStream_t stream) {
  launch(stream, [=, h = here(h), a = here(a), dh = here(dh)] {
    for (std::int64_t i = 0; i < size.rows * size.columns; ++i)
      if (gated)
        silu_backward_value(h, a, dh, size.columns, i / size.columns, i % size.columns);
      else
        gelu_backward_value(h, a, dh, i);
  });
}

template <class T>
void turn_heads(const Heads<T>& there, const T* x, T* y, cudaStream_t stream) {
  launch(stream, [heads = here(there), x = here(x), y = here(y)] {
    for (std::int64_t r = 0; r < heads.rows; ++r)
      for (std::int64_t k = 0; k < heads.heads; ++k)
        turn_head(HostTeam{}, head_of(heads, r), x + r * heads.x_row + k * heads.dim,
                  y + r * heads.y_row + k * heads.dim);
  });
}

template <class T>
void turn_heads_backward(const Heads<T>& there, const T* d, const T* x, T* dx, std::int64_t dx_row, float* d_weight,
                         cudaStream_t stream) {
  launch(stream, [=, heads = here(there), d = here(d), x = here(x), dx = here(dx), d_weight = here(d_weight)] {
    for (std::int64_t r = 0; r < heads.rows; ++r)
      for (std::int64_t k = 0; k < heads.heads; ++k)
        turn_head_backward(HostTeam{}, head_of(heads, r), d + r * heads.y_row + k * heads.dim,
                           x == nullptr ? nullptr : x + r * heads.x_row + k * heads.dim,
                           dx + r * dx_row + k * heads.dim,
                           d_weight == nullptr ? nullptr : d_weight + (r * heads.heads + k) * heads.dim);
  });
}

void sum_squares(const float* x, std::int64_t count, double* partial, double* sum, cudaStream_t stream) {
  launch(stream, [=, x = here(x), partial = here(partial), sum = here(sum)] {
    *sum = 0;
    for (std::int64_t part = 0; part < square_sums; ++part)
      *sum += partial[part] = sum_of_squares(x, count, part, square_sums);
  });
}

void look_for_ones(const Words& there, std::uint64_t base, std::uint64_t* found, cudaStream_t stream) {
  launch(stream, [=, words = Words{here(there.first), there.stride, there.count}, found = here(found)] {
    for (std::int64_t i = 0; i < words.count; ++i)
      if (words.is_ones(i)) *found = std::min(*found, base + static_cast<std::uint64_t>(i));
  });
}

template <class T>
void cross_entropy(T* logits, const std::int64_t* targets, Rows size, bool in_place, float scale, double* losses,
                   cudaStream_t stream) {
  launch(stream, [=, logits = here(logits), targets = here(targets), losses = here(losses)] {
    for (std::int64_t r = 0; r < size.rows; ++r)
      cross_entropy_row(HostTeam{}, logits + r * size.columns, targets[r], size.columns, in_place, scale, losses + r);
  });
}

MEMO_KERNELS_OF(float)
MEMO_KERNELS_OF(__nv_bfloat16)

}  // namespace memo::kernels
