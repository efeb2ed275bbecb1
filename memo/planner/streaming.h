// Placements under which nothing of the sequence's length stays on the device between passes: layer inputs, residuals,
// q k v, attention outputs and gradients leave by token block after each pass, and return for the next pass that reads
// them. Only the operands of one core call, of one head group, then have the sequence's length:
//   S (q + 2 k + o + do + dq + dk + dv) row bytes + S lse row bytes
// = 8 S (heads of the group) head_dim element bytes + 4 S (heads of the group) when keys are not shared.
#pragma once

#include "memo/planner/placement.h"

namespace memo::planner {

// `placement` with everything streamed that it does not keep; classes that a placement does not choose for (gradients,
// the last layer) are streamed too.
Placement streamed(Placement placement, const Profile& profile, int tier);

// `placement` with persistent tensors of the first `layers` layers on the tier. Pages optimizer state, then gradients,
// then weights, as `most` says.
enum class Paged { optimizer, gradients, weights };
Placement paged(Placement placement, const Profile& profile, int tier, Paged most, int layers);

// `placement` by which the host updates the first `layers` layers: their optimizer state stays on the tier, and their
// gradients leave for it. Their weights are kept, or paged with them.
Placement updated_on_host(Placement placement, const Profile& profile, int tier, int layers, bool page_weights);

// Bytes per token of the largest core call's operands. The least peak of a streamed plan grows with the context at this
// rate (plus workspace that grows with it).
Bytes core_bytes_per_token(const model::Dataflow& flow);

}  // namespace memo::planner
