// The requests of a recorded call: from its allocations, and those of other lengths and documents.
#pragma once

#include <vector>

#include "memo/libtorch/memory/allocator.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// In the order of the allocations; what was not freed dies at 0.
std::vector<plan::Request> requests_of(const std::vector<AllocationEvent>& events);

// A call at `tokens`, from two recordings of other lengths whose requests grow linearly. An error: they make different
// requests.
Result<plan::Trace> at_length(Tokens tokens, const plan::Trace& small, const plan::Trace& large);

// Makes each request of `trace` as large as that of `other`. An error: they make different requests.
Status take_most(plan::Trace& trace, const plan::Trace& other);

}  // namespace memo::libtorch
