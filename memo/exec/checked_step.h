// Check mode: a step that is watched while it runs. Every range of bytes that a stream reads or writes is recorded, and
// of two accesses that conflict one must come after the other by an event: a copy comes after all that compute was
// given before it was started, and compute after a copy that it waited for (memo/exec/executor.h). What becomes free,
// and what is not filled yet, holds a pattern that is NaN in every float type: a call that reads it is named, and so is
// one that leaves it where it should write.
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
  std::int64_t conflicts = 0;  // pairs of them on two streams, one writing, each ordered by an event
  Bytes poisoned;
};

// The arena's bytes as check mode fills and reads them, in the order of what compute is given: here, memory of the
// host.
class ArenaBytes {
 public:
  virtual ~ArenaBytes() = default;
  virtual Status fill(std::byte* to, Bytes bytes, int value);
  // words[i]: the 8 bytes at from + i * stride.
  virtual Status read(const std::byte* from, Bytes stride, std::span<std::uint64_t> words);
};

// Wraps what a step of `plan` runs on: `run_step` is given `compute()` and `copies()` in place of those wrapped, which
// with the plan and the arena must outlive it, as must `bytes`. The first violation ends
// the step as an error of the call that comes next, or of `drain`; a copy that races with another is still made, so
// what the arena holds after an error is worthless. Several sequences of a step may be played one after the other.
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
