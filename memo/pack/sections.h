// Cuts time into sections, the maximal sets of buffers alive together: packing needs to know nothing else about time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memo/pack/pack.h"

namespace memo::pack {

struct Range {  // sections [first, last)
  std::uint32_t first, last;
};

// The sections of each buffer: for buffer i `ranges[i]`, one range for each interval of its life, disjoint and in
// order.
struct Sections {
  std::uint32_t count = 0;
  std::vector<std::uint32_t> begin;  // buffer i has ranges [begin[i], begin[i + 1])
  std::vector<Range> all;

  explicit Sections(const Instance& instance);

  struct View {
    const Range *first, *last;
    [[nodiscard]] const Range* begin() const { return first; }
    [[nodiscard]] const Range* end() const { return last; }
  };
  [[nodiscard]] View of(std::size_t buffer) const { return {&all[begin[buffer]], &all[begin[buffer + 1]]}; }
  // From the first section of the life to the last, including pauses.
  [[nodiscard]] Range hull(std::size_t buffer) const {
    return {all[begin[buffer]].first, all[begin[buffer + 1] - 1].last};
  }
};

// The number of pairs of buffers alive together, counted up to `most`: a search's memory and time grow with it.
std::size_t pairs_alive(const Instance& instance, std::size_t most);

}  // namespace memo::pack
