// When the lasting tensors (weights, gradients, optimizer state of each layer) are on the device: those that are kept
// always, in slots of their own; of those that are swapped, a few layers at a time, in slots that layers take in turn.
#pragma once

#include "memo/planner/residency.h"

namespace memo::planner {

// Adds their stays and rings. A swapped one is fetched during the pass before the one that uses it, stays while passes
// that follow one another use it, and is then written out if a call has changed it. Gradients are out before the
// update, since a step may have more sequences; not where updates are early.
void add_lasting(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                 const Schedule& schedule, const Pace& pace, Residencies& result);

}  // namespace memo::planner
