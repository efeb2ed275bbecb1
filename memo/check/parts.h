// The parts of the validator, one function for each concern; each failure is one line. Nothing here is shared with the
// planner: the rules that a plan must satisfy come from memo/plan/program.h and memo/model/dataflow.h alone.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "memo/check/validate.h"
#include "memo/plan/ranges.h"

namespace memo::check {

using namespace plan;  // what is checked

// Names of things in failures; indices must be in range.
std::string name_of_call(const Plan& plan, CallIndex call);
const char* name_of_phase(Phase phase);

// Whether the call belongs to the optimizer's step; and the first such call, or the number of calls.
bool updates(const Plan& plan, CallIndex call);
CallIndex first_update(const Plan& plan);
// Whether the tensor is persistent, so that it outlives the step.
bool persistent(const Plan& plan, TensorIndex tensor);

// The number of blocks or groups over which a stage's calls run.
int positions(const model::Dataflow& flow, model::Stage stage);

// For each residency, the boundary from which its content may be read. Never for a fetched one without a copy.
IndexedVector<ResidencyIndex, Boundary> ready_boundaries(const Program& program);

// All functions below assume that plan::check_structure found nothing.

void check_calls(const Plan& plan, Failures& failures);         // each call of the step once, with its trace
void check_data(const Plan& plan, Failures& failures);          // operands of every call lie where they are needed
void check_copies(const Plan& plan, Failures& failures);        // order, extents and alignment of copies, tiers
void check_persistent(const Plan& plan, Failures& failures);    // what is changed in place is never lost or stale
void check_host_updates(const Plan& plan, Failures& failures);  // the host has what it updates, and calls do not use it
void check_space(const Plan& plan, Failures& failures);         // nothing overlaps in the arena or in a workspace
void check_sums(const Plan& plan, Failures& failures);  // limit, prediction and placement agree with the program

// Occupies addresses [low, high) during [begin, end).
struct Rectangle {
  int begin = 0, end = 0;
  std::int64_t low = 0, high = 0;
};
// Calls `found(a, b)` with indices of overlapping rectangles, until it returns false. At least one rectangle of every
// overlapping pair is named. O(n log n).
void find_overlaps(const std::vector<Rectangle>& rectangles, const std::function<bool(int, int)>& found);

}  // namespace memo::check
