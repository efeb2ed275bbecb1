// Packs one turn of a loop over blocks for all its blocks: the transients of its calls, and the tensors that are born
// and die within a turn. The result is one request of the packing of the whole step (MEMO's bi-level plan calls these
// levels layer and model; here the lower level is a block).
#pragma once

#include <vector>

#include "memo/planner/residency.h"

namespace memo::planner {

struct PassPlan {
  Bytes bytes;
  std::vector<Bytes> workspaces;  // offset within the pass of each of its calls' transients
  std::vector<int> rings;         // those that live within a turn
  std::vector<Bytes> ring_offsets;
};

// A ring that is taken into a pass must not be placed elsewhere.
std::vector<PassPlan> pack_passes(const Profile& profile, const Schedule& schedule, const Residencies& residencies,
                                  const IndexedVector<TraceIndex, Transients>& transients);

}  // namespace memo::planner
