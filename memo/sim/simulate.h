// Plays a program on three streams with the profile's times and rates, and returns the predicted timeline.
#pragma once

#include <vector>

#include "memo/plan/plan.h"

namespace memo::sim {

struct Interval {
  int index = 0;              // of the call or copy in the program
  double start = 0, end = 0;  // seconds since the step began
};

struct Timeline {
  Seconds step, stall;  // stall: compute waiting for copies
  Bytes bytes_out, bytes_in;
  std::vector<Interval> calls, copies_out, copies_in;
};

Timeline simulate(const plan::Profile& profile, const plan::Program& program);

}  // namespace memo::sim
