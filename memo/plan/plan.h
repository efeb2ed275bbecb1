// A plan: a program with the profile behind it, its placement, and its predicted memory and time.
#pragma once

#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/plan/profile.h"
#include "memo/plan/program.h"

namespace memo::plan {

inline constexpr int plan_version = 3;

// The placement of the blocks of one class and layer: counts of recomputed + swapped + kept blocks = B (1 for a
// persistent class, which is kept or streamed). The first blocks are recomputed (early tokens are cheapest in causal
// attention), the next are swapped, the last are kept (backward needs those first).
struct ClassPlacement {
  ClassIndex cls;
  LayerIndex layer;
  int recomputed = 0, swapped = 0, kept = 0;
  int tier = 0;
  // Streamed: swapped blocks leave between any two passes that use them, so that nothing of the sequence's length stays
  // on the device; otherwise they leave only between forward and backward. Optimizer state that is swapped, but not
  // streamed, never is on the device: the host updates its layer.
  bool streamed = false;
};

struct Prediction {
  Bytes device_peak;         // of the arena
  Bytes device_lower_bound;  // no placement of these tensors at addresses can be smaller
  Seconds step, stall;
  Seconds step_lower_bound;  // compute without recomputation or stalls
  Bytes bytes_out, bytes_in;
  double placement_gap = 0;  // proved, of the placement problem: (cost - bound) / bound
};

// A kind of plan that the planner has tried: its fastest plan that fits, else its smallest.
struct Considered {
  std::string name;
  Bytes device_peak;
  Seconds step;  // of one sequence; 0: none fits
};

struct Plan {
  std::string strategy;
  Bytes device_limit;  // 0: none
  int slots = 2;       // staging ring: slots per swapped class
  int sequences = 1;   // a step plays the program once for each; all but the last time without the optimizer
  Profile profile;
  std::vector<ClassPlacement> placement;
  Program program;
  Prediction predicted;
  std::vector<Considered> considered;  // in the order in which they were looked at
};

inline constexpr FileKind plan_kind{"a plan", "{\"format\":\"memo-plan\""};
Result<Plan> read_plan(const Path& path);
Status write_plan(const Plan& plan, const Path& path);

}  // namespace memo::plan
