// The requests of a program, given to PyTorch's caching allocator: what the same step would reserve without a plan of
// addresses.
#pragma once

#include <vector>

#include "memo/plan/plan.h"

namespace memo::report {

struct Replay {
  Bytes allocated, reserved;  // peaks
  struct Growth {
    int boundary = 0;
    Bytes reserved;  // from here on
  };
  std::vector<Growth> growth;
  int failed_at = -1;  // the call at which memory ran out; -1: none
};

// One step, with `capacity` bytes of device memory (0: without end). Weights, gradients and optimizer are requested
// first. Tensors are requested when the plan brings them to the device and freed when it lets go of them, transients
// when the profiled call did; the blocks of a sequence that overlap in time are one buffer, as they are for the
// planner.
Replay replay(const plan::Plan& plan, Bytes capacity);

}  // namespace memo::report
