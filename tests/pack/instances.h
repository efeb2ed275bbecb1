// Seeded random instances for the tests of this folder.
#pragma once

#include <random>

#include "memo/pack/pack.h"

namespace memo::pack {

struct Shape {
  std::size_t buffers = 6;
  std::int64_t times = 8, sizes = 6;           // lifetimes in [0, times], sizes in [1, sizes]
  std::vector<std::int64_t> alignments = {1};  // one of these each
};

inline Instance random_instance(std::mt19937_64& random, const Shape& shape) {
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
  };
  Instance instance(shape.buffers);
  for (Buffer& b : instance) {
    b.lower = below(shape.times);
    b.upper = b.lower + 1 + below(shape.times - b.lower);
    b.size = 1 + below(shape.sizes);
    b.alignment = shape.alignments[static_cast<std::size_t>(below(static_cast<std::int64_t>(shape.alignments.size())))];
  }
  return instance;
}

}  // namespace memo::pack
