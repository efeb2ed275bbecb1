// Gives each team of threads its rows; rows.h is the mathematics.
#include "memo/kernels/launch.h"

namespace memo::kernels {
namespace {

constexpr int block_threads = 256;

unsigned blocks_for(std::int64_t work, std::int64_t of_block) {
  return static_cast<unsigned>((work + of_block - 1) / of_block);
}

int columns_of(const Rows& size) { return static_cast<int>(size.columns); }

template <int n, class T>
__global__ void norm_kernel(const T* x, const T* weight, const T* bias, T* y, int columns, bool layer, float eps) {
  __shared__ float shared[32];
  const std::int64_t first = std::int64_t{blockIdx.x} * columns;
  norm_row<n>(BlockTeam{shared}, x + first, weight, bias, y + first, columns, layer, eps);
}

template <int n, class T>
__global__ void statistics_kernel(const T* x, Statistics* of_rows, int columns, bool layer, float eps) {
  __shared__ float shared[32];
  const std::int64_t first = std::int64_t{blockIdx.x} * columns;
  const Statistics s = statistics<n>(BlockTeam{shared}, x + first, columns, layer, eps);
  if (threadIdx.x == 0) of_rows[blockIdx.x] = s;
}

template <int n, class T>
__global__ void norm_columns_kernel(const T* x, const T* d, const Statistics* of_rows, float* d_weight, float* d_bias,
                                    std::int64_t rows, int columns) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * n;
  if (column >= columns) return;
  const std::int64_t first = blockIdx.y * rows_of_chunk, left = rows - first, sums = std::int64_t{blockIdx.y} * columns;
  norm_columns<n>(x + first * columns, d + first * columns, of_rows + first,
                  static_cast<int>(left < rows_of_chunk ? left : rows_of_chunk), columns, column, d_weight + sums,
                  d_bias == nullptr ? nullptr : d_bias + sums);
}

template <int n, class T>
__global__ void norm_backward_kernel(const T* x, const T* weight, T* d, const Statistics* of_rows, int columns,
                                     bool layer) {
  __shared__ float shared[32];
  const std::int64_t first = std::int64_t{blockIdx.x} * columns;
  norm_backward_row<n>(BlockTeam{shared}, x + first, weight, d + first, of_rows[blockIdx.x], columns, layer);
}

// A block's part of a row, of which there are `parts` a row; the only division is the block's.
template <int n>
struct Part {
  std::int64_t row;
  int column;
  __device__ explicit Part(unsigned parts)
      : row(blockIdx.x / parts),
        column(static_cast<int>((blockIdx.x % parts) * blockDim.x + threadIdx.x) * n) {}
};

template <int n, class T>
__global__ void activation_kernel(const T* h, T* a, int columns, unsigned parts, bool gated) {
  const Part<n> at(parts);
  if (at.column >= columns) return;
  T* to = a + at.row * columns + at.column;
  const T* gate = h + at.row * columns * (gated ? 2 : 1) + at.column;
  if (gated)
    silu_values<n>(gate, gate + columns, to);
  else
    gelu_values<n>(gate, to);
}

template <int n, class T>
__global__ void activation_backward_kernel(const T* h, T* a, T* dh, int columns, unsigned parts, bool gated) {
  const Part<n> at(parts);
  if (at.column >= columns) return;
  T* both = a + at.row * columns + at.column;
  const std::int64_t first = at.row * columns * (gated ? 2 : 1) + at.column;
  if (gated)
    silu_backward_values<n>(h + first, h + first + columns, both, dh + first, dh + first + columns);
  else
    gelu_backward_values<n>(h + first, both, dh + first);
}

// Threads that turn a head together: with 16 bytes an access, 8 have a head of 128 values of bfloat16.
template <int n>
constexpr int threads_of_head = n == 1 ? 32 : 8;

// The head of a row that a team works on.
template <int n, class T>
struct Place {
  bool there;
  std::int64_t row, head, number;
  __device__ explicit Place(const Heads<T>& heads) {
    const unsigned team = blockIdx.x * (blockDim.x / threads_of_head<n>) + threadIdx.x / threads_of_head<n>;
    const auto of_row = static_cast<unsigned>(heads.heads);
    number = team;
    there = number < heads.rows * heads.heads;
    row = team / of_row;
    head = team % of_row;
  }
  __device__ Head<T> of(const Heads<T>& heads) const {
    return {heads.frequencies, heads.rotation_scale, heads.frequencies == nullptr ? 0 : heads.positions[row],
            heads.weight, heads.eps, static_cast<int>(heads.dim)};
  }
};

template <int n, class T>
__global__ void turn_kernel(Heads<T> heads, const T* x, T* y) {
  const Place<n, T> at(heads);
  if (!at.there) return;
  turn_head<n>(PartOfWarp<threads_of_head<n>>{}, at.of(heads), x + at.row * heads.x_row + at.head * heads.dim,
               y + at.row * heads.y_row + at.head * heads.dim);
}

template <int n, class T>
__global__ void turn_backward_kernel(Heads<T> heads, const T* d, const T* x, T* dx, std::int64_t dx_row,
                                     float* d_weight) {
  const Place<n, T> at(heads);
  if (!at.there) return;
  turn_head_backward<n>(PartOfWarp<threads_of_head<n>>{}, at.of(heads),
                        d + at.row * heads.y_row + at.head * heads.dim,
                        x == nullptr ? nullptr : x + at.row * heads.x_row + at.head * heads.dim,
                        dx + at.row * dx_row + at.head * heads.dim,
                        d_weight == nullptr ? nullptr : d_weight + at.number * heads.dim);
}

template <int n, class T>
__global__ void cross_entropy_kernel(T* logits, const std::int64_t* targets, int columns, bool in_place, float scale,
                                     double* losses) {
  __shared__ float shared[32];
  cross_entropy_row<n>(BlockTeam{shared}, logits + std::int64_t{blockIdx.x} * columns, targets[blockIdx.x], columns,
                       in_place, scale, losses + blockIdx.x);
}

// The block's sum of a value of each thread, for thread 0; the block has `threads` threads, a power of 2.
template <int threads>
__device__ double sum_of_block(double value) {
  __shared__ double shared[threads];
  shared[threadIdx.x] = value;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  return shared[0];
}

__global__ void squares_kernel(const float* x, std::int64_t count, double* partial) {
  const std::int64_t threads = gridDim.x * std::int64_t{blockDim.x};
  const double sum = sum_of_squares(x, count, blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x, threads);
  const double of_block = sum_of_block<block_threads>(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = of_block;
}

__global__ void sum_kernel(const double* partial, double* sum) {
  const double all = sum_of_block<square_sums>(partial[threadIdx.x]);
  if (threadIdx.x == 0) *sum = all;
}

__global__ void look_kernel(Words words, unsigned long long base, unsigned long long* found) {
  const std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (i < words.count && words.is_ones(i)) atomicMin(found, base + static_cast<unsigned long long>(i));
}

}  // namespace

template <class T>
void norm(const T* x, const T* weight, const T* bias, T* y, Rows size, bool layer, float eps, cudaStream_t stream) {
  if (size.rows == 0) return;
  by_width<T>(all_wide<T>(size.columns, x, weight, bias, y), [&](auto n) {
    norm_kernel<n><<<static_cast<unsigned>(size.rows), block_threads, 0, stream>>>(x, weight, bias, y,
                                                                                   columns_of(size), layer, eps);
  });
}

template <class T>
void norm_backward(const T* x, const T* weight, T* d, Statistics* of_rows, float* d_weight, float* d_bias, Rows size,
                   bool layer, float eps, cudaStream_t stream) {
  if (size.rows == 0) return;
  const auto rows = static_cast<unsigned>(size.rows);
  const int columns = columns_of(size);
  by_width<T>(all_wide<T>(size.columns, x, weight, d, d_weight, d_bias), [&](auto n) {
    statistics_kernel<n><<<rows, block_threads, 0, stream>>>(x, of_rows, columns, layer, eps);
    const dim3 grid(blocks_for(columns / n, block_threads), blocks_for(size.rows, rows_of_chunk));
    norm_columns_kernel<n><<<grid, block_threads, 0, stream>>>(x, d, of_rows, d_weight, d_bias, size.rows, columns);
    norm_backward_kernel<n><<<rows, block_threads, 0, stream>>>(x, weight, d, of_rows, columns, layer);
  });
}

template <class T>
void activation(const T* h, T* a, Rows size, bool gated, cudaStream_t stream) {
  if (size.rows * size.columns == 0) return;
  by_width<T>(all_wide<T>(size.columns, h, a), [&](auto n) {
    const unsigned parts = blocks_for(size.columns / n, block_threads);
    activation_kernel<n><<<static_cast<unsigned>(size.rows) * parts, block_threads, 0, stream>>>(
        h, a, columns_of(size), parts, gated);
  });
}

template <class T>
void activation_backward(const T* h, T* a, T* dh, Rows size, bool gated, cudaStream_t stream) {
  if (size.rows * size.columns == 0) return;
  by_width<T>(all_wide<T>(size.columns, h, a, dh), [&](auto n) {
    const unsigned parts = blocks_for(size.columns / n, block_threads);
    activation_backward_kernel<n><<<static_cast<unsigned>(size.rows) * parts, block_threads, 0, stream>>>(
        h, a, dh, columns_of(size), parts, gated);
  });
}

template <class T>
void turn_heads(const Heads<T>& heads, const T* x, T* y, cudaStream_t stream) {
  if (heads.rows * heads.heads == 0) return;
  by_width<T>(heads.all_wide(x, y), [&](auto n) {
    constexpr int teams = block_threads / threads_of_head<n>;
    turn_kernel<n><<<blocks_for(heads.rows * heads.heads, teams), block_threads, 0, stream>>>(heads, x, y);
  });
}

template <class T>
void turn_heads_backward(const Heads<T>& heads, const T* d, const T* x, T* dx, std::int64_t dx_row, float* d_weight,
                         cudaStream_t stream) {
  if (heads.rows * heads.heads == 0) return;
  by_width<T>(heads.all_wide(x, d) && all_wide<T>(dx_row, dx, d_weight), [&](auto n) {
    constexpr int teams = block_threads / threads_of_head<n>;
    turn_backward_kernel<n>
        <<<blocks_for(heads.rows * heads.heads, teams), block_threads, 0, stream>>>(heads, d, x, dx, dx_row, d_weight);
  });
}

void sum_squares(const float* x, std::int64_t count, double* partial, double* sum, cudaStream_t stream) {
  squares_kernel<<<square_sums, block_threads, 0, stream>>>(x, count, partial);
  sum_kernel<<<1, square_sums, 0, stream>>>(partial, sum);
}

void look_for_ones(const Words& words, std::uint64_t base, std::uint64_t* found, cudaStream_t stream) {
  if (const unsigned blocks = blocks_for(words.count, block_threads); blocks > 0)
    look_kernel<<<blocks, block_threads, 0, stream>>>(words, base, reinterpret_cast<unsigned long long*>(found));
}

template <class T>
void cross_entropy(T* logits, const std::int64_t* targets, Rows size, bool in_place, float scale, double* losses,
                   cudaStream_t stream) {
  if (size.rows == 0) return;
  by_width<T>(all_wide<T>(size.columns, logits), [&](auto n) {
    cross_entropy_kernel<n><<<static_cast<unsigned>(size.rows), block_threads, 0, stream>>>(
        logits, targets, columns_of(size), in_place, scale, losses);
  });
}

MEMO_KERNELS_OF(float)
MEMO_KERNELS_OF(__nv_bfloat16)

}  // namespace memo::kernels
