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

// The k-th of some that are small enough for a brute force: with gaps and alignments by turns.
inline Instance small_instance(std::mt19937_64& random, int k) {
  Shape shape;
  shape.gaps = k % 2 == 0;
  if (k % 3 == 0) shape.alignments = {1, 2};
  return random_instance(random, shape);
}

// Whether buffers i, i + 1, ... fit below `peak` beside the first i: every offset is tried, so nothing is assumed.
// `meets[i]`: the earlier buffers that live at a time of buffer i.
inline bool fits(const Instance& instance, const std::vector<std::vector<std::size_t>>& meets, std::int64_t peak,
                 std::vector<std::int64_t>& offsets, std::size_t i = 0) {
  if (i == instance.size()) return true;
  const Buffer& b = instance[i];
  for (std::int64_t at = 0; at + b.size <= peak; at += b.alignment) {
    if (b.fixed && *b.fixed != at) continue;
    bool free = true;
    for (const std::size_t j : meets[i])
      free = free && (at + b.size <= offsets[j] || offsets[j] + instance[j].size <= at);
    offsets[i] = at;
    if (free && fits(instance, meets, peak, offsets, i + 1)) return true;
  }
  return false;
}

inline std::int64_t brute_force_peak(const Instance& instance) {
  std::vector<std::vector<std::size_t>> meets(instance.size());
  for (std::size_t i = 0; i < instance.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (together(instance[i], instance[j])) meets[i].push_back(j);
  std::vector<std::int64_t> offsets(instance.size());
  for (std::int64_t peak = 0;; ++peak)
    if (fits(instance, meets, peak, offsets)) return peak;
}

}  // namespace memo::pack
