// Best fit in order of time, as an allocator would do online: O(n log n), so that any instance has a packing at once.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/pack/pack.h"

namespace memo::pack {

// Offsets when each buffer takes the smallest gap that holds it as its life begins, and leaves it as it ends. Gaps keep
// clear of fixed buffers at all times.
std::vector<std::int64_t> best_fit_forward(const Instance& instance);
// The same with time running backward.
std::vector<std::int64_t> best_fit_backward(const Instance& instance);

}  // namespace memo::pack
