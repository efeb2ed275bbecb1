// The threads that work on a row together: a block or warp of a GPU, or one thread of the host. The mathematics of the
// kernels (rows.h) depends on the machine only through these teams, so its tests run on the host.
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define MEMO_BOTH __host__ __device__
#else
#define MEMO_BOTH
#endif

namespace memo::kernels {

// A team of one: each sum is the lane's own value.
struct HostTeam {
  [[nodiscard]] int lane() const { return 0; }
  [[nodiscard]] int lanes() const { return 1; }
  // Reduces the values of all lanes, and gives every lane the result. It is also a barrier: what lanes do before it
  // comes before what any lane does after it.
  [[nodiscard]] float sum(float value) const { return value; }
  [[nodiscard]] float max(float value) const { return value; }
};

#ifdef __CUDACC__
// So many threads of a warp, a power of 2, that are neighbours.
template <int count>
struct PartOfWarp {
  __device__ int lane() const { return static_cast<int>(threadIdx.x % count); }
  __device__ int lanes() const { return count; }
  __device__ unsigned members() const {
    return count == 32 ? 0xffffffffu : ((1u << count % 32) - 1) << threadIdx.x % 32 / count * count;
  }
  __device__ float sum(float value) const {
    for (int apart = count / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(members(), value, apart);
    return value;
  }
  __device__ float max(float value) const {
    for (int apart = count / 2; apart > 0; apart /= 2) value = fmaxf(value, __shfl_xor_sync(members(), value, apart));
    return value;
  }
};
using WarpTeam = PartOfWarp<32>;

// All threads of a block, a multiple of 32 and at most 1024.
struct BlockTeam {
  float* shared;  // [32]
  __device__ int lane() const { return static_cast<int>(threadIdx.x); }
  __device__ int lanes() const { return static_cast<int>(blockDim.x); }
  __device__ float sum(float value) const {
    const WarpTeam warp;
    value = warp.sum(value);
    if (warp.lane() == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    value = warp.sum(threadIdx.x % 32 < blockDim.x / 32 ? shared[threadIdx.x % 32] : 0.0f);
    __syncthreads();
    return value;
  }
  __device__ float max(float value) const {
    const WarpTeam warp;
    value = warp.max(value);
    if (warp.lane() == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    value = warp.max(threadIdx.x % 32 < blockDim.x / 32 ? shared[threadIdx.x % 32] : -INFINITY);
    __syncthreads();
    return value;
  }
};
#endif

}  // namespace memo::kernels
