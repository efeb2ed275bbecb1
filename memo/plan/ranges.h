// The ranges of numbers in a profile or a plan: readers and writers of their files refuse other numbers, and the
// validator (memo/check) checks them first. Each failure is one line.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "memo/plan/plan.h"

namespace memo::plan {

// Keeps the first `most` failures.
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

// The largest size or address of a plan, so that sums of a few never overflow: 8 PiB, exact in a double.
inline constexpr std::int64_t max_bytes = std::int64_t{1} << 53;
inline bool in_bytes(Bytes bytes) { return bytes >= Bytes(0) && bytes <= Bytes(max_bytes); }

// Names of things in failures; indices must be in range.
std::string name_of_instance(const model::Dataflow& flow, ClassIndex cls, LayerIndex layer, BlockIndex block,
                             int group);
std::string name_of_tensor(const Plan& plan, TensorIndex tensor);

inline bool over_blocks(model::Stage stage) { return stage <= model::Stage::loss && stage != model::Stage::core; }
// Segments whose backward side has operands have a backward call.
inline bool has_backward(const model::Segment& segment) {
  return !segment.backward.reads.empty() || !segment.backward.writes.empty();
}

// Check the ranges of numbers and indices.
void check_profile(const Profile& profile, Failures& failures);
void check_structure(const Plan& plan, Failures& failures);

}  // namespace memo::plan
