// Placements under which nothing of the sequence's length stays on the device between passes: layer inputs, residuals,
// q k v, attention outputs and gradients leave by token block after each pass and return for the next that reads them.
// What remains of the sequence's length are the operands of one core call, of one head group:
//   S (q + 2 k + o + do + dq + dk + dv) row bytes + S lse row bytes
// = 8 S (heads of the group) head_dim element bytes + 4 S (heads of the group) when keys are not shared.
#pragma once

#include "memo/planner/placement.h"

namespace memo::planner {

// `placement` with everything streamed that it does not keep, and the classes that a placement does not choose for
// (gradients, the last layer) streamed too.
Placement streamed(Placement placement, const Profile& profile, int tier);

// `placement` with lasting tensors of the first `layers` layers on the tier: of what is optimizer state, gradients too,
// or weights too.
enum class Paged { optimizer, gradients, weights };
Placement paged(Placement placement, const Profile& profile, int tier, Paged most, int layers);

// Bytes per token of the largest core call's operands: how fast the least peak of a streamed plan grows with the
// context (and workspace that grows with it).
Bytes core_bytes_per_token(const model::Dataflow& flow);

}  // namespace memo::planner
