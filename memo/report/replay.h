// The requests of a program, given to PyTorch's caching allocator: what the same step would reserve without a plan of
// addresses.
#pragma once

#include <vector>

#include "memo/plan/plan.h"

namespace memo::report {

struct Replay {
  Bytes allocated, reserved;  // peaks
  struct Growth {
    plan::Boundary boundary;
    Bytes reserved;  // from here on
  };
  std::vector<Growth> growth;
  plan::CallIndex failed_at = plan::CallIndex::none();  // at which memory ran out, if it did
};

// One step, with `capacity` bytes of device memory (0: without end). Weights, gradients and optimizer are requested
// first. Tensors are requested when the plan brings them to the device and freed when it lets go of them, transients
// when the profiled call did; the blocks of a sequence that overlap in time are one buffer, as they are for the
// planner.
Replay replay(const plan::Plan& plan, Bytes capacity);

}  // namespace memo::report
