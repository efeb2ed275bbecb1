// Check mode: a step that is watched while it runs. It records every range of bytes that a stream reads or writes. Of
// two accesses that conflict, an event must order one after the other: a copy comes after all work that compute was
// given before the copy was started, and compute after a copy that it waited for (memo/exec/executor.h). Memory that is
// freed or not yet filled holds a pattern that is NaN in every float type. A call that reads the pattern is reported.
// Calls that fail to overwrite it in their outputs are reported too.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "memo/exec/executor.h"
#include "memo/plan/plan.h"

namespace memo::exec {

struct CheckReport {
  std::int64_t accesses = 0;   // ranges read or written
  std::int64_t conflicts = 0;  // pairs of accesses on two streams, one writing, each ordered by an event
  Bytes poisoned;
};

// A look for poison at 8 bytes of every `stride`: the words at from + i * stride, i < count.
struct Look {
  const std::byte* from = nullptr;
  Bytes stride;
  std::int64_t count = 0;
};
struct Found {
  std::int64_t look = 0, word = 0;  // their numbers
};

// Fills the arena's bytes for check mode and looks at them, in the order of compute's work. This class does so in the
// host's memory.
class ArenaBytes {
 public:
  virtual ~ArenaBytes() = default;
  virtual Status fill(std::byte* to, Bytes bytes, int value);
  // Makes look number `number`, of increasing numbers.
  virtual Status look(const Look& look, std::int64_t number);
  // The first word of the first look since the last `found` that has all bits set; none if no look met one.
  virtual Result<std::optional<Found>> found();
  // Whether `found` makes the host wait for the device.
  [[nodiscard]] virtual bool waits() const { return false; }

 private:
  std::optional<Found> found_;
};

// Wraps the compute and copies that a step of `plan` runs on: give `run_step` the wrapping `compute()` and `copies()`.
// The wrapped ones, the plan, the arena and `bytes` must outlive this. The first violation ends the step as an error of
// the next call, or of `drain`. Poison on a device that the host would wait for is an error later, but before
// parameters change, and before forward ends. A copy that races with another is still made, so the arena is worthless
// after an error. Several sequences of a step may be played one after the other.
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
