// The order of samples: a permutation that is computed, not stored, so that any sample's place is known at once.
#include <bit>

#include "memo/base/check.h"
#include "memo/corpus/dataset.h"

namespace memo::corpus {
namespace {

// SplitMix64's output function (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// The image of `x` under the permutation of [0, n) that `key` selects: a Feistel network over the least even number of
// bits that holds n, repeated until it lands below n (Black, Rogaway: Ciphers with arbitrary finite domains, 2002).
std::uint64_t permuted(std::uint64_t x, std::uint64_t n, std::uint64_t key) {
  const int half = (static_cast<int>(std::bit_width(n)) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  do {
    std::uint64_t left = x >> half, right = x & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t next = left ^ (mix(key ^ mix(right << 2 | round)) & mask);
      left = right;
      right = next;
    }
    x = left << half | right;
  } while (x >= n);
  return x;
}

}  // namespace

std::int64_t sample_start(std::uint64_t seed, std::int64_t sample, std::int64_t context, std::int64_t tokens) {
  MEMO_CHECK(sample >= 0 && context > 0 && tokens > context, "a sample fits the data");
  const std::int64_t samples = (tokens - 1) / context, left_over = (tokens - 1) % context;
  const std::uint64_t key = mix(seed + mix(static_cast<std::uint64_t>(sample / samples)));
  const auto shift = static_cast<std::int64_t>(mix(key) % static_cast<std::uint64_t>(left_over + 1));
  const auto index = static_cast<std::uint64_t>(sample % samples);
  return shift + context * static_cast<std::int64_t>(permuted(index, static_cast<std::uint64_t>(samples), key));
}

}  // namespace memo::corpus
