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
          static_cast<int>(heads.dim)};
}

}  // namespace

using cuda::emulated::launch;

template <class T>
void norm(const T* x, const T* weight, const T* bias, T* y, Rows size, bool layer, float eps, cudaStream_t stream) {
  launch(stream, [=, x = here(x), weight = here(weight), bias = here(bias), y = here(y)] {
    const std::int64_t columns = size.columns;
    by_width<T>(all_wide<T>(columns, x, weight, bias, y), [&](auto n) {
      for (std::int64_t r = 0; r < size.rows; ++r)
        norm_row<n>(HostTeam{}, x + r * columns, weight, bias, y + r * columns, static_cast<int>(columns), layer, eps);
    });
  });
}

template <class T>
void norm_backward(const T* x, const T* weight, T* d, Statistics* of_rows, float* d_weight, float* d_bias, Rows size,
                   bool layer, float eps, cudaStream_t stream) {
  launch(stream, [=, x = here(x), weight = here(weight), d = here(d), of_rows = here(of_rows),
                  d_weight = here(d_weight), d_bias = here(d_bias)] {
    const int columns = static_cast<int>(size.columns);
    const auto row = [&](auto* rows, std::int64_t r) { return rows + r * size.columns; };
    by_width<T>(all_wide<T>(columns, x, weight, d, d_weight, d_bias), [&](auto n) {
      for (std::int64_t r = 0; r < size.rows; ++r)
        of_rows[r] = statistics<n>(HostTeam{}, row(x, r), columns, layer, eps);
      for (std::int64_t first = 0, chunk = 0; first < size.rows; first += rows_of_chunk, ++chunk)
        for (int i = 0; i < columns; i += n)
          norm_columns<n>(row(x, first), row(d, first), of_rows + first,
                          static_cast<int>(std::min(rows_of_chunk, size.rows - first)), columns, i,
                          row(d_weight, chunk), d_bias == nullptr ? nullptr : row(d_bias, chunk));
      for (std::int64_t r = 0; r < size.rows; ++r)
        norm_backward_row<n>(HostTeam{}, row(x, r), weight, row(d, r), of_rows[r], columns, layer);
    });
  });
}

template <class T>
void activation(const T* h, T* a, Rows size, bool gated, cudaStream_t stream) {
  launch(stream, [=, h = here(h), a = here(a)] {
    by_width<T>(all_wide<T>(size.columns, h, a), [&](auto n) {
      for (std::int64_t r = 0; r < size.rows; ++r)
        for (std::int64_t i = 0; i < size.columns; i += n) {
          const T* gate = h + r * size.columns * (gated ? 2 : 1) + i;
          if (gated)
            silu_values<n>(gate, gate + size.columns, a + r * size.columns + i);
          else
            gelu_values<n>(gate, a + r * size.columns + i);
        }
    });
  });
}

template <class T>
void activation_backward(const T* h, T* a, T* dh, Rows size, bool gated, cudaStream_t stream) {
  launch(stream, [=, h = here(h), a = here(a), dh = here(dh)] {
    by_width<T>(all_wide<T>(size.columns, h, a, dh), [&](auto n) {
      for (std::int64_t r = 0; r < size.rows; ++r)
        for (std::int64_t i = 0; i < size.columns; i += n) {
          const std::int64_t at = r * size.columns * (gated ? 2 : 1) + i, up = at + size.columns;
          if (gated)
            silu_backward_values<n>(h + at, h + up, a + r * size.columns + i, dh + at, dh + up);
          else
            gelu_backward_values<n>(h + at, a + r * size.columns + i, dh + at);
        }
    });
  });
}

template <class T>
void turn_heads(const Heads<T>& there, const T* x, T* y, cudaStream_t stream) {
  launch(stream, [heads = here(there), x = here(x), y = here(y)] {
    by_width<T>(heads.all_wide(x, y), [&](auto n) {
      for (std::int64_t r = 0; r < heads.rows; ++r)
        for (std::int64_t k = 0; k < heads.heads; ++k)
          turn_head<n>(HostTeam{}, head_of(heads, r), x + r * heads.x_row + k * heads.dim,
                       y + r * heads.y_row + k * heads.dim);
    });
  });
}

template <class T>
void turn_heads_backward(const Heads<T>& there, const T* d, const T* x, T* dx, std::int64_t dx_row, float* d_weight,
                         cudaStream_t stream) {
  launch(stream, [=, heads = here(there), d = here(d), x = here(x), dx = here(dx), d_weight = here(d_weight)] {
    by_width<T>(heads.all_wide(x, d) && all_wide<T>(dx_row, dx, d_weight), [&](auto n) {
      for (std::int64_t r = 0; r < heads.rows; ++r)
        for (std::int64_t k = 0; k < heads.heads; ++k)
          turn_head_backward<n>(HostTeam{}, head_of(heads, r), d + r * heads.y_row + k * heads.dim,
                                x == nullptr ? nullptr : x + r * heads.x_row + k * heads.dim,
                                dx + r * dx_row + k * heads.dim,
                                d_weight == nullptr ? nullptr : d_weight + (r * heads.heads + k) * heads.dim);
    });
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
    by_width<T>(all_wide<T>(size.columns, logits), [&](auto n) {
      for (std::int64_t r = 0; r < size.rows; ++r)
        cross_entropy_row<n>(HostTeam{}, logits + r * size.columns, targets[r], static_cast<int>(size.columns),
                             in_place, scale, losses + r);
    });
  });
}

MEMO_KERNELS_OF(float)
MEMO_KERNELS_OF(__nv_bfloat16)

}  // namespace memo::kernels
