// Offline dynamic storage allocation: given sizes and lifetimes, offsets that minimise the peak.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "memo/base/units.h"

namespace memo::pack {

// A pause in a buffer's life, [lower, upper): its bytes are free for others, its offset stays.
struct Gap {
  std::int64_t lower = 0, upper = 0;
};

// Holds for every instance given to this folder's functions: lower < upper, size > 0, alignment > 0, gaps are not
// empty, in order, apart from each other and inside of the life, a fixed offset is a non-negative multiple of the
// alignment, fixed buffers do not overlap, and the highest fixed end plus all other sizes plus all padding fits 63
// bits.
struct Buffer {
  std::int64_t lower = 0, upper = 0;  // alive in [lower, upper)
  std::int64_t size = 0;              // bytes, > 0
  std::int64_t alignment = 1;         // of the offset
  std::optional<std::int64_t> fixed;  // the offset it must have
  std::vector<Gap> gaps = {};
};

// `visit(lower, upper)` for each interval of a buffer's life, in order.
template <class Visit>
void for_each_life(const Buffer& buffer, Visit visit) {
  std::int64_t lower = buffer.lower;
  for (const Gap& gap : buffer.gaps) {
    visit(lower, gap.lower);
    lower = gap.upper;
  }
  visit(lower, buffer.upper);
}

using Instance = std::vector<Buffer>;

enum class Method {
  search,  // exact search with restarts, or first fit over many orders: whatever the instance is small enough for
  mip,     // the paper's mixed-integer program, from the best of a few orders on
};

struct Options {
  Method method = Method::search;
  double time_limit = 10;  // seconds
  std::uint64_t seed = 1;
  int threads = 1;                       // of the search of small instances
  std::optional<std::int64_t> capacity;  // decide this capacity; minimise the peak without it
  std::optional<std::int64_t> rounds;    // orders to try and restarts at most: a result that no machine's speed changes
  const std::atomic<int>* stop = nullptr;  // not 0, as a signal handler leaves it: end soon with the best so far
};

// Minimising always ends with a packing; a time limit of less than one sweep along time takes (about a second for
// 200 000 buffers) is overrun. optimal: peak equals lower_bound (minimising), or fits the capacity (deciding).
// feasible: a gap remains. infeasible: proved. timeout: neither an answer nor a proof.
enum class Outcome { optimal, feasible, infeasible, timeout };

struct Packing {
  Outcome outcome = Outcome::timeout;
  std::vector<std::int64_t> offsets;  // one per buffer, in the instance's order; empty when there is no answer
  std::int64_t peak = 0;
  std::int64_t lower_bound = 0;  // proved
  double seconds = 0;
};

Packing pack(const Instance& instance, const Options& options = {});

// The most bytes alive at one time.
std::int64_t max_live_bytes(const Instance& instance);
// The best proved bound on any packing's peak: max_live_bytes, alignment padding and the highest fixed end.
std::int64_t lower_bound(const Instance& instance);

// Peaks of justified packings, and so the least peak, are multiples of this many bytes.
std::int64_t granule(const Instance& instance);

// Pairs that overlap in time and address, `most` at most; empty exactly when there are none. A buffer that overlaps an
// earlier one is left out of the comparison with later ones.
std::vector<std::pair<std::size_t, std::size_t>> overlaps(const Instance& instance,
                                                          const std::vector<std::int64_t>& offsets, std::size_t most);

// Trusts neither the instance nor the offsets. Shares no code with the packer. One line per failure (overlap,
// alignment, negative or fixed offset, capacity).
std::vector<std::string> validate(const Instance& instance, const std::vector<std::int64_t>& offsets,
                                  std::optional<std::int64_t> capacity = {}, std::size_t most = 20);

}  // namespace memo::pack
