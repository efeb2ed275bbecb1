// Best fit in order of time, as an online allocator would do: O(n log n), so that any instance has a packing at once.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/pack/pack.h"

namespace memo::pack {

// Offsets when each buffer takes the smallest gap that holds it when its life begins, and frees it when its life ends.
// Gaps keep clear of fixed buffers at all times.
std::vector<std::int64_t> best_fit_forward(const Instance& instance);
// The same with time running backward.
std::vector<std::int64_t> best_fit_backward(const Instance& instance);

}  // namespace memo::pack
