// When the persistent tensors (weights, gradients, optimizer state of each layer) are on the device. Kept ones are
// there always, each in a slot of its own. Swapped ones are there a few layers at a time, in slots that layers take in
// turn.
#pragma once

#include "memo/planner/residency.h"

namespace memo::planner {

// Adds their stays and rings. A swapped tensor is fetched during the pass before the one that uses it, stays while
// consecutive passes use it, and is then written out if a call has changed it. Gradients are written out before the
// update, since the step may have more sequences; except where updates are early.
void add_persistent(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                    const Schedule& schedule, const Pace& pace, Residencies& result);

}  // namespace memo::planner
