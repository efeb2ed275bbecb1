// Gives a program's requests to PyTorch's caching allocator, to see what the same step would reserve without planned
// addresses.
#pragma once

#include <vector>

#include "memo/plan/plan.h"

namespace memo::report {

struct Replay {
  Bytes allocated, reserved;  // peaks
  struct Growth {
    plan::Boundary boundary;
    Bytes reserved;  // from this boundary on
  };
  std::vector<Growth> growth;
  plan::CallIndex failed_at = plan::CallIndex::none();  // at which memory ran out, if it did
};

// Replays one step, with `capacity` bytes of device memory (0: no limit). Weights, gradients and optimizer state are
// requested first. A tensor is requested when the plan brings it to the device and freed when its residency ends;
// transients are requested and freed when the profiled call did so. Blocks of a sequence whose residencies overlap are
// one buffer, as they are for the planner.
Replay replay(const plan::Plan& plan, Bytes capacity);

}  // namespace memo::report
