// The independent validator: checks a plan without any code that makes plans.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/plan/plan.h"

namespace memo::check {

// Returns one line for each failure, at most `most` lines; empty when the plan holds. It finds: residencies, workspaces
// and fixed regions that overlap in time and address or leave the arena; a tensor that is read before it is written or
// fetched, or after its residency ends; blocks of a sequence that are not contiguous; a fetch of a tensor that was
// never written out or whose write has not ended; a copy that ends after its use; a tier over capacity or tier extents
// that overlap; misaligned copies; an arena over the limit; transients that overlap.
std::vector<std::string> validate(const plan::Plan& plan, std::size_t most = 20);
// The first failure, as an error.
Status must_hold(const plan::Plan& plan);

}  // namespace memo::check
