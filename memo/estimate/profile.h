// A profile without a device: what `memo profile` would measure, from a setup's sizes and rates. Planner and simulator
// take it as they take a measured one.
#pragma once

#include <vector>

#include "memo/estimate/layer.h"
#include "memo/plan/profile.h"

namespace memo::estimate {

struct Modelled {
  plan::Profile profile;      // of one micro-batch on one GPU
  std::vector<Split> splits;  // of each trace
  Bytes host_state;           // of what a GPU's share of the optimizer and weights takes on the host
  double once_a_step = 0;     // seconds: updates, and gradients of all ranks
};

// `layers_in_flight`: of a pipeline, whose first stage holds the saved tensors of several micro-batches: so many times
// the stage's own layers.
Modelled model_profile(const Setup& setup, int layers_in_flight = 1);

}  // namespace memo::estimate
