// A profile without a device: what `memo profile` would measure, from a setup's sizes and rates. Planner and simulator
// take it as they take a measured one.
#pragma once

#include <functional>
#include <vector>

#include "memo/estimate/layer.h"
#include "memo/plan/profile.h"

namespace memo::estimate {

struct Modelled {
  plan::Profile profile;  // of one micro-batch on one GPU
  IndexedVector<plan::TraceIndex, Split> splits;
  Bytes host_state;        // of what a GPU's share of the optimizer and weights takes on the host
  double once_a_step = 0;  // seconds: updates, and gradients of all ranks
};

// `layers_in_flight`: of a pipeline, whose first stage holds the saved tensors of several micro-batches: so many times
// the stage's own layers.
Modelled model_profile(const Setup& setup, int layers_in_flight = 1);

// Seconds of a micro-batch's calls for which `counts` holds, nothing computed again and no waits.
double calls_seconds(const Modelled& modelled,
                     const std::function<bool(const model::Segment& segment, bool backward)>& counts);

}  // namespace memo::estimate
