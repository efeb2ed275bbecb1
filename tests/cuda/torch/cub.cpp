// Sorts of one tile work in shared memory; larger ones have histograms, a state for each tile and digit, and a second
// pair of buffers.
#include "tests/cuda/torch/cub.h"

#include <ATen/ceil_div.h>

#include <algorithm>
#include <initializer_list>

namespace memo::cuda::emulated {
namespace {

// Parts of one allocation, each aligned to 256 bytes.
std::int64_t together(std::initializer_list<std::int64_t> parts) {
  std::int64_t bytes = 255;
  for (const std::int64_t part : parts) bytes += at::ceil_div<std::int64_t>(part, 256) * 256;
  return bytes;
}

}  // namespace

int bits_of(std::int64_t most) {
  int bits = 1;
  while (most > 1) most >>= 1, ++bits;
  return bits;
}

std::int64_t radix_sort_bytes(std::int64_t count, int bits) {
  constexpr std::int64_t one_tile = 256 * 9, tile = 384 * 12, digits = 256, counter = 4;
  if (count <= one_tile) return 1;
  const std::int64_t passes = at::ceil_div<std::int64_t>(bits, 8), most = ((std::int64_t{1} << 28) - 1) / tile * tile;
  const std::int64_t portions = at::ceil_div<std::int64_t>(count, most), second = passes > 1 ? 8 * count : 0;
  return together({portions * passes * digits * counter,
                   at::ceil_div<std::int64_t>(std::min(count, most), tile) * digits * counter, second, second,
                   portions * passes * counter});
}

std::int64_t scan_bytes(std::int64_t count) { return together({(at::ceil_div<std::int64_t>(count, 2048) + 32) * 16}); }

}  // namespace memo::cuda::emulated
