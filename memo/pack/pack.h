// Offline dynamic storage allocation: finds offsets for given sizes and lifetimes that minimise the peak.
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

// A pause in a buffer's life, [lower, upper): others may use its bytes, and its offset stays the same.
struct Gap {
  std::int64_t lower = 0, upper = 0;
};

// Every instance given to this folder's functions must satisfy: lower < upper, size > 0, alignment > 0; gaps are not
// empty, in order, separate from each other and inside of the life; a fixed offset is a non-negative multiple of the
// alignment; fixed buffers do not overlap; and the highest fixed end plus all other sizes plus all padding fits 63
// bits.
struct Buffer {
  std::int64_t lower = 0, upper = 0;  // alive in [lower, upper)
  std::int64_t size = 0;              // bytes, > 0
  std::int64_t alignment = 1;         // of the offset
  std::optional<std::int64_t> fixed;  // the offset it must have, if any
  std::vector<Gap> gaps = {};
};

// Calls `visit(lower, upper)` for each interval of a buffer's life, in order.
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
  search,  // exact search with restarts for small instances, else first fit over many orders
  mip,     // the paper's mixed-integer program, starting from the best of a few orders
};

struct Options {
  Method method = Method::search;
  double time_limit = 10;  // seconds
  std::uint64_t seed = 1;
  int threads = 1;                       // of the search of small instances
  std::optional<std::int64_t> capacity;  // decide whether this capacity suffices; none: minimise the peak
  // Most orders to try and restarts, so that the result does not depend on the machine's speed.
  std::optional<std::int64_t> rounds;
  const std::atomic<int>* stop = nullptr;  // not 0, as a signal handler leaves it: end soon with the best so far
};

// Minimising always ends with a packing, and so overruns a time limit shorter than one sweep along time (about a second
// for 200 000 buffers). optimal: the peak equals lower_bound (minimising), or fits the capacity (deciding). feasible: a
// gap remains. infeasible: proved. timeout: neither an answer nor a proof.
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

// Pairs that overlap in time and address, at most `most`; empty exactly when there are none. A buffer that overlaps an
// earlier one is not compared with later ones.
std::vector<std::pair<std::size_t, std::size_t>> overlaps(const Instance& instance,
                                                          const std::vector<std::int64_t>& offsets, std::size_t most);

// Checks a packing, and trusts neither the instance nor the offsets. Shares no code with the packer. Returns one line
// for each failure (overlap, alignment, negative or fixed offset, capacity).
std::vector<std::string> validate(const Instance& instance, const std::vector<std::int64_t>& offsets,
                                  std::optional<std::int64_t> capacity = {}, std::size_t most = 20);

}  // namespace memo::pack
