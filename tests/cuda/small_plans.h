// Plans of a few layers and blocks, made by the planner's own parts, that use the tier in every way there is.
#pragma once

#include "memo/planner/build.h"
#include "memo/planner/streaming.h"
#include "tests/plan/synthetic_profile.h"

namespace memo::cuda {

inline plan::Profile small_profile() {
  plan::Profile profile = plan::synthetic_profile(
      {.hidden = 32, .layers = 3, .heads = 4, .kv_heads = 2, .ffn = 96, .groups = 2, .context = 256, .block = 64});
  profile.fixed = {{"weights", Bytes(4096)}, {"gradients", Bytes(4096)}, {"optimizer", Bytes(4096)}};
  for (plan::Trace& trace : profile.traces)
    for (plan::Request& request : trace.requests) request.bytes = Bytes(16 << 10);
  return profile;
}

inline plan::Plan plan_of(plan::Profile profile, std::vector<plan::ClassPlacement> placement, int slots) {
  plan::Plan plan;
  plan.strategy = "memo";
  plan.slots = slots;
  plan.profile = std::move(profile);
  plan.placement = std::move(placement);
  planner::Built built = planner::build_program(plan.profile, plan.placement, {slots, false, false});
  plan.program = std::move(built.program);
  plan.predicted.device_peak = plan.program.arena;
  plan.predicted.device_lower_bound = built.lower_bound;
  for (const plan::Copy& copy : plan.program.copies) {
    const plan::TensorIndex tensor = plan.program.residencies[copy.residency].tensor;
    (copy.direction == plan::Direction::out ? plan.predicted.bytes_out : plan.predicted.bytes_in) +=
        plan.program.tensors[tensor].bytes;
  }
  return plan;
}

// All that can be leaves through a ring of `slots` between forward and backward, and returns.
inline plan::Plan swapped_plan(int slots) {
  const plan::Profile profile = small_profile();
  return plan_of(profile, planner::place_swapped(profile, 0).classes, slots);
}
// Also between passes, and all weights, gradients and optimizer state are paged.
inline plan::Plan paged_plan(int slots) {
  const plan::Profile profile = small_profile();
  const planner::Placement streamed = planner::streamed(planner::place_swapped(profile, 0), profile, 0);
  return plan_of(profile, planner::paged(streamed, profile, 0, planner::Paged::weights, 3).classes, slots);
}

}  // namespace memo::cuda
