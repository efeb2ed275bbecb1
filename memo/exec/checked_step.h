// Check mode: a step that is watched while it runs. It records every range of bytes that a stream reads or writes. Of
// two accesses that conflict, an event must order one after the other: a copy comes after all work that compute was
// given before the copy was started, and compute after a copy that it waited for (memo/exec/executor.h). Memory that is
// freed or not yet filled holds a pattern that is NaN in every float type. A call that reads the pattern is reported.
// Calls that fail to overwrite it in their outputs are reported too.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "memo/exec/executor.h"
#include "memo/plan/plan.h"

namespace memo::exec {

struct CheckReport {
  std::int64_t accesses = 0;   // ranges read or written
  std::int64_t conflicts = 0;  // pairs of accesses on two streams, one writing, each ordered by an event
  Bytes poisoned;
};

// Fills and reads the arena's bytes for check mode, in the order of compute's work. This class does so in the host's
// memory.
class ArenaBytes {
 public:
  virtual ~ArenaBytes() = default;
  virtual Status fill(std::byte* to, Bytes bytes, int value);
  // words[i] becomes the 8 bytes at from + i * stride.
  virtual Status read(const std::byte* from, Bytes stride, std::span<std::uint64_t> words);
};

// Wraps the compute and copies that a step of `plan` runs on: give `run_step` the wrapping `compute()` and `copies()`.
// The wrapped ones, the plan, the arena and `bytes` must outlive this. The first violation ends the step as an error of
// the next call, or of `drain`. A copy that races with another is still made, so the arena is worthless after an error.
// Several sequences of a step may be played one after the other.
class CheckedStep {
 public:
  CheckedStep(const plan::Plan& plan, std::byte* arena, Compute& compute, CopyEngine& copies, ArenaBytes& bytes);
  ~CheckedStep();
  [[nodiscard]] Compute& compute();
  [[nodiscard]] CopyEngine& copies();
  [[nodiscard]] CheckReport report() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace memo::exec
