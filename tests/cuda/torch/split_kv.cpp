// The fewest parts among those that reach 85 % of the best occupancy.
#include "tests/cuda/torch/split_kv.h"

#include <ATen/ceil_div.h>
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>

namespace memo::cuda::emulated {
namespace {

// The share of the device's time that is used where `blocks` blocks of work run on it.
float occupancy(std::int64_t blocks, std::int64_t at_once) {
  const float waves = static_cast<float>(blocks) / static_cast<float>(at_once);
  return waves / std::ceil(waves);
}

}  // namespace

int multiprocessors() {
  cudaDeviceProp properties{};
  int device = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  return properties.multiProcessorCount;
}

int splits_of(std::int64_t batch_heads, std::int64_t rows, std::int64_t keys, std::int64_t dim) {
  const std::int64_t at_once = 2 * std::int64_t{multiprocessors()};  // blocks of 128 threads
  const std::int64_t key_blocks = at::ceil_div<std::int64_t>(keys, dim <= 64 ? 256 : dim <= 128 ? 128 : 64);
  const std::int64_t blocks = batch_heads * at::ceil_div<std::int64_t>(rows, 64);
  if (static_cast<float>(blocks) >= 0.8f * static_cast<float>(at_once)) return 1;
  const std::int64_t most = std::min({std::int64_t{128}, at_once, key_blocks});
  // A number that leaves a part empty is the same work as a smaller one.
  const auto counts = [&](std::int64_t n) {
    return n == 1 || at::ceil_div<std::int64_t>(key_blocks, n) != at::ceil_div<std::int64_t>(key_blocks, n - 1);
  };
  float best = 0;
  for (std::int64_t n = 1; n <= most; ++n)
    if (counts(n)) best = std::max(best, occupancy(blocks * n, at_once));
  for (std::int64_t n = 1; n <= most; ++n)
    if (counts(n) && occupancy(blocks * n, at_once) >= 0.85 * best) return static_cast<int>(n);
  return 1;
}

}  // namespace memo::cuda::emulated
