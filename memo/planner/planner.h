// From a profile to a plan: tries placements and paces, plays each on the simulator, and takes the fastest that fits.
#pragma once

#include <string>
#include <vector>

#include "memo/plan/plan.h"
#include "memo/sim/simulate.h"

namespace memo::planner {

struct Request {
  std::string strategy = "memo";
  Bytes device_limit;  // 0: none
  int slots = 0;       // staging slots per swapped class; 0: the planner chooses
  int sequences = 1;   // a step
  // Update parameters as soon as backward has their gradients: no norm of all gradients clips them, and there is one
  // sequence a step.
  bool early_updates = false;
  // The first plan that fits is enough, even if it is not the fastest: the caller asks whether there is one. For an
  // infeasible request, the smallest limit may then be missed.
  bool any_plan = false;
};

// resident, recompute, offload, memo, memo-alpha
const std::vector<std::string>& strategies();

// Infeasible: the error has the smallest limit that works with this strategy, and its text what dominates it.
Result<plan::Plan> make_plan(const plan::Profile& profile, const Request& request);

}  // namespace memo::planner
