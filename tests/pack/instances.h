// Seeded random instances for the tests of this folder.
#pragma once

#include <algorithm>
#include <random>

#include "memo/pack/pack.h"

namespace memo::pack {

// How many random instances to try: fewer where a sanitizer makes each slow.
constexpr int affordable(int instances) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return (instances + 9) / 10;
#else
  return instances;
#endif
}

struct Shape {
  std::size_t buffers = 6;
  std::int64_t times = 8, sizes = 6;           // lifetimes in [0, times], sizes in [1, sizes]
  std::vector<std::int64_t> alignments = {1};  // one of these each
  bool gaps = false;                           // a pause in the middle of every other life that is long enough
};

inline bool alive(const Buffer& b, std::int64_t time) {
  return b.lower <= time && time < b.upper &&
         std::none_of(b.gaps.begin(), b.gaps.end(), [&](const Gap& g) { return g.lower <= time && time < g.upper; });
}

inline bool together(const Buffer& a, const Buffer& b) {
  for (std::int64_t time = std::max(a.lower, b.lower); time < std::min(a.upper, b.upper); ++time)
    if (alive(a, time) && alive(b, time)) return true;
  return false;
}

inline Instance random_instance(std::mt19937_64& random, const Shape& shape) {
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  Instance instance(shape.buffers);
  for (Buffer& b : instance) {
    b.lower = below(shape.times);
    b.upper = b.lower + 1 + below(shape.times - b.lower);
    b.size = 1 + below(shape.sizes);
    if (shape.gaps && b.upper - b.lower > 2 && random() % 2 == 0) {
      const std::int64_t from = b.lower + 1 + below(b.upper - b.lower - 2);
      b.gaps.push_back({from, from + 1 + below(b.upper - from - 1)});
    }
    b.alignment = shape.alignments[static_cast<std::size_t>(below(static_cast<std::int64_t>(shape.alignments.size())))];
  }
  return instance;
}

}  // namespace memo::pack
