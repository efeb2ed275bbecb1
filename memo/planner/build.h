// Builds the program for one placement and pace, from schedule, residencies and addresses.
#pragma once

#include "memo/planner/residency.h"

namespace memo::planner {

struct Built {
  Program program;
  Bytes lower_bound;  // most bytes alive at one moment: no addresses for these lifetimes can need less, nested or not
};

// Addresses are packed at three levels, each result one request of the next (MEMO's bi-level plan and a level below):
// the transients of a call; a turn of a pass over the blocks (memo/planner/iteration.h); the passes, rings and fixed
// memory of the step.
Built build_program(const Profile& profile, const std::vector<ClassPlacement>& placement, const Pace& pace);

}  // namespace memo::planner
