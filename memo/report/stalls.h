// Finds where compute waited for copies, and for which copies.
#pragma once

#include <vector>

#include "memo/plan/program.h"
#include "memo/sim/simulate.h"

namespace memo::report {

// Compute waited before call `boundary` (or, at the number of calls, before the step's end) for copies due there.
struct Stall {
  plan::Boundary boundary;
  int copy = 0;  // of the copies due, the last one to end
  double start = 0;
  Seconds seconds;
};

// The gaps between calls at boundaries where copies are due, in order. Gaps below a microsecond are left out.
std::vector<Stall> stalls(const plan::Program& program, const sim::Timeline& timeline);

struct StallsOfClass {
  plan::ClassIndex cls;
  plan::Direction direction = plan::Direction::out;
  int count = 0;
  Seconds seconds, longest;
};
// Sums by class and direction of the copy waited for; most seconds first.
std::vector<StallsOfClass> stalls_by_class(const plan::Program& program, const std::vector<Stall>& stalls);

}  // namespace memo::report
