// Inside of the validator: one function a concern, one line a failure. Nothing here is shared with the planner; what a
// plan must satisfy is read off memo/plan/program.h and memo/model/dataflow.h alone.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "memo/plan/plan.h"

namespace memo::plan {

// The first `most` failures.
class Failures {
 public:
  explicit Failures(std::size_t most) : most_(most) {}
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    if (!full()) lines_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  [[nodiscard]] bool full() const { return lines_.size() >= most_; }
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }
  [[nodiscard]] std::size_t most() const { return most_; }

 private:
  std::size_t most_;
  std::vector<std::string> lines_;
};

// No size or address of a plan is larger, so that sums of a few never overflow: 8 PiB, exact in a double.
inline constexpr std::int64_t max_bytes = std::int64_t{1} << 53;

// How failures name things; indices must be in range.
std::string name_of_instance(const model::Dataflow& flow, int cls, int layer, int block, int group);
std::string name_of_tensor(const Plan& plan, int tensor);
std::string name_of_call(const Plan& plan, int call);
const char* name_of_phase(Phase phase);

// Whether the call belongs to the optimizer's step; the first one that does, or the number of calls.
bool updates(const Plan& plan, int call);
int first_update(const Plan& plan);
// Whether the tensor outlives the step.
bool lasting(const Plan& plan, int tensor);

// Blocks or groups over which a stage's calls run.
int positions(const model::Dataflow& flow, model::Stage stage);
inline bool over_blocks(model::Stage stage) { return stage <= model::Stage::loss && stage != model::Stage::core; }
// A backward call exists for the segments whose backward side has operands.
inline bool has_backward(const model::Segment& segment) {
  return !segment.backward.reads.empty() || !segment.backward.writes.empty();
}

// Per residency: the boundary from which its content may be read. Fetched ones without a copy: never.
std::vector<int> ready_boundaries(const Program& program);

// Ranges of numbers and indices. Everything below assumes that these two found nothing.
void check_profile(const Profile& profile, Failures& failures);
void check_structure(const Plan& plan, Failures& failures);

void check_calls(const Plan& plan, Failures& failures);    // each call of the step once, with its trace
void check_data(const Plan& plan, Failures& failures);     // operands of every call lie where they are needed
void check_copies(const Plan& plan, Failures& failures);   // order, extents and alignment of copies, tiers
void check_lasting(const Plan& plan, Failures& failures);  // what is changed in place is never lost or stale
void check_space(const Plan& plan, Failures& failures);    // nothing overlaps in the arena or in a workspace
void check_sums(const Plan& plan, Failures& failures);     // limit, prediction and placement agree with the program

// Owns addresses [low, high) during [begin, end).
struct Rectangle {
  int begin = 0, end = 0;
  std::int64_t low = 0, high = 0;
};
// Calls `found(a, b)` for overlapping rectangles (indices), until it returns false: every overlap has one of its
// rectangles named at least once. O(n log n).
void find_overlaps(const std::vector<Rectangle>& rectangles, const std::function<bool(int, int)>& found);

}  // namespace memo::plan
