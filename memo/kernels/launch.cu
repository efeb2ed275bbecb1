// Gives each team of threads its rows; rows.h is the mathematics.
#include "memo/kernels/launch.h"

namespace memo::kernels {
namespace {

constexpr int block_threads = 256, warps_of_block = 8;

unsigned blocks_for(std::int64_t work, std::int64_t of_block) {
  return static_cast<unsigned>((work + of_block - 1) / of_block);
}

template <class T>
__global__ void norm_kernel(const T* x, const T* weight, const T* bias, T* y, Rows size, bool layer, float eps) {
  __shared__ float shared[32];
  const std::int64_t first = blockIdx.x * size.columns;
  norm_row(BlockTeam{shared}, x + first, weight, bias, y + first, size.columns, layer, eps);
}

template <class T>
__global__ void statistics_kernel(const T* x, Statistics* of_rows, Rows size, bool layer, float eps) {
  __shared__ float shared[32];
  const Statistics s = statistics(BlockTeam{shared}, x + blockIdx.x * size.columns, size.columns, layer, eps);
  if (threadIdx.x == 0) of_rows[blockIdx.x] = s;
}

template <class T>
__global__ void norm_column_kernel(const T* x, const T* d, const Statistics* of_rows, float* d_weight, float* d_bias,
                                   Rows size) {
  const std::int64_t column = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (column >= size.columns) return;
  const std::int64_t first = blockIdx.y * rows_of_chunk, left = size.rows - first;
  norm_column(x + first * size.columns, d + first * size.columns, of_rows + first,
              left < rows_of_chunk ? left : rows_of_chunk, size.columns, column, d_weight + blockIdx.y * size.columns,
              d_bias == nullptr ? nullptr : d_bias + blockIdx.y * size.columns);
}

template <class T>
__global__ void norm_backward_kernel(const T* x, const T* weight, T* d, const Statistics* of_rows, Rows size,
                                     bool layer) {
  __shared__ float shared[32];
  const std::int64_t first = blockIdx.x * size.columns;
  norm_backward_row(BlockTeam{shared}, x + first, weight, d + first, of_rows[blockIdx.x], size.columns, layer);
}

template <class T>
__global__ void activation_kernel(const T* h, T* a, Rows size, bool gated) {
  const std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (i >= size.rows * size.columns) return;
  if (gated)
    silu_value(h, a, size.columns, i / size.columns, i % size.columns);
  else
    gelu_value(h, a, i);
}

template <class T>
__global__ void activation_backward_kernel(const T* h, T* a, T* dh, Rows size, bool gated) {
  const std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (i >= size.rows * size.columns) return;
  if (gated)
    silu_backward_value(h, a, dh, size.columns, i / size.columns, i % size.columns);
  else
    gelu_backward_value(h, a, dh, i);
}

// The head of a row that a warp works on.
template <class T>
struct Place {
  bool there;
  std::int64_t row, head, number;
  __device__ explicit Place(const Heads<T>& heads) {
    number = blockIdx.x * std::int64_t{warps_of_block} + threadIdx.x / 32;
    there = number < heads.rows * heads.heads;
    row = number / heads.heads;
    head = number % heads.heads;
  }
  __device__ Head<T> of(const Heads<T>& heads) const {
    return {heads.frequencies, heads.rotation_scale, heads.frequencies == nullptr ? 0 : heads.positions[row],
            heads.weight, heads.eps, heads.dim};
  }
};

template <class T>
__global__ void turn_kernel(Heads<T> heads, const T* x, T* y) {
  const Place<T> at(heads);
  if (!at.there) return;
  turn_head(WarpTeam{}, at.of(heads), x + at.row * heads.x_row + at.head * heads.dim,
            y + at.row * heads.y_row + at.head * heads.dim);
}

template <class T>
__global__ void turn_backward_kernel(Heads<T> heads, const T* d, const T* x, T* dx, std::int64_t dx_row,
                                     float* d_weight) {
  const Place<T> at(heads);
  if (!at.there) return;
  turn_head_backward(WarpTeam{}, at.of(heads), d + at.row * heads.y_row + at.head * heads.dim,
                     x == nullptr ? nullptr : x + at.row * heads.x_row + at.head * heads.dim,
                     dx + at.row * dx_row + at.head * heads.dim,
                     d_weight == nullptr ? nullptr : d_weight + at.number * heads.dim);
}

template <class T>
__global__ void cross_entropy_kernel(T* logits, const std::int64_t* targets, Rows size, bool in_place, float scale,
                                     double* losses) {
  __shared__ float shared[32];
  cross_entropy_row(BlockTeam{shared}, logits + blockIdx.x * size.columns, targets[blockIdx.x], size.columns, in_place,
                    scale, losses + blockIdx.x);
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
  norm_kernel<<<static_cast<unsigned>(size.rows), block_threads, 0, stream>>>(x, weight, bias, y, size, layer, eps);
}

template <class T>
void norm_backward(const T* x, const T* weight, T* d, Statistics* of_rows, float* d_weight, float* d_bias, Rows size,
                   bool layer, float eps, cudaStream_t stream) {
  if (size.rows == 0) return;
  const auto rows = static_cast<unsigned>(size.rows);
  statistics_kernel<<<rows, block_threads, 0, stream>>>(x, of_rows, size, layer, eps);
  const dim3 grid(blocks_for(size.columns, block_threads), blocks_for(size.rows, rows_of_chunk));
  norm_column_kernel<<<grid, block_threads, 0, stream>>>(x, d, of_rows, d_weight, d_bias, size);
  norm_backward_kernel<<<rows, block_threads, 0, stream>>>(x, weight, d, of_rows, size, layer);
}

template <class T>
void activation(const T* h, T* a, Rows size, bool gated, cudaStream_t stream) {
  if (const unsigned blocks = blocks_for(size.rows * size.columns, block_threads); blocks > 0)
    activation_kernel<<<blocks, block_threads, 0, stream>>>(h, a, size, gated);
}

template <class T>
void activation_backward(const T* h, T* a, T* dh, Rows size, bool gated, cudaStream_t stream) {
  if (const unsigned blocks = blocks_for(size.rows * size.columns, block_threads); blocks > 0)
    activation_backward_kernel<<<blocks, block_threads, 0, stream>>>(h, a, dh, size, gated);
}

template <class T>
void turn_heads(const Heads<T>& heads, const T* x, T* y, cudaStream_t stream) {
  if (const unsigned blocks = blocks_for(heads.rows * heads.heads, warps_of_block); blocks > 0)
    turn_kernel<<<blocks, 32 * warps_of_block, 0, stream>>>(heads, x, y);
}

template <class T>
void turn_heads_backward(const Heads<T>& heads, const T* d, const T* x, T* dx, std::int64_t dx_row, float* d_weight,
                         cudaStream_t stream) {
  if (const unsigned blocks = blocks_for(heads.rows * heads.heads, warps_of_block); blocks > 0)
    turn_backward_kernel<<<blocks, 32 * warps_of_block, 0, stream>>>(heads, d, x, dx, dx_row, d_weight);
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
  cross_entropy_kernel<<<static_cast<unsigned>(size.rows), block_threads, 0, stream>>>(logits, targets, size, in_place,
                                                                                       scale, losses);
}

MEMO_KERNELS_OF(float)
MEMO_KERNELS_OF(__nv_bfloat16)

}  // namespace memo::kernels
