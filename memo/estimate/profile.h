// A profile without a device: computes what `memo profile` would measure from a setup's sizes and rates. Planner and
// simulator take it like a measured one.
#pragma once

#include <functional>
#include <vector>

#include "memo/estimate/layer.h"
#include "memo/plan/profile.h"

namespace memo::estimate {

struct Modelled {
  plan::Profile profile;  // of one micro-batch on one GPU
  IndexedVector<plan::TraceIndex, Split> splits;
  Bytes host_state;        // bytes on the host of a GPU's share of optimizer and weights
  double once_a_step = 0;  // seconds: updates, and collectives of gradients and weights
};

// `layers_in_flight`: for a pipeline, whose first stage holds the saved tensors of several micro-batches. The profile
// then has this many times the stage's own layers.
Modelled model_profile(const Setup& setup, int layers_in_flight = 1);

// Seconds of a micro-batch's calls that `counts` accepts, without reruns and waits.
double calls_seconds(const Modelled& modelled,
                     const std::function<bool(const model::Segment& segment, bool backward)>& counts);

}  // namespace memo::estimate
