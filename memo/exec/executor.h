// Plays a program: calls run in order on the compute stream, copies on their own streams, and events keep the order
// between them. Knows no tensor library: a call is a number that `Compute` understands, memory is bytes in an arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/exec/by_boundary.h"
#include "memo/plan/program.h"

namespace memo::exec {

// Runs the calls of a program. On a CPU `run` returns when the call has ended, on an accelerator when it was enqueued.
class Compute {
 public:
  virtual ~Compute() = default;
  virtual Status run(plan::CallIndex call) = 0;
};

struct CopyRequest {
  std::byte* device = nullptr;
  Bytes bytes;
  plan::Direction direction = plan::Direction::out;
  int tier = 0;
  Bytes tier_offset;
};

using Ticket = std::int64_t;

struct Span {                 // one finished piece of work on a stream
  int index = 0;              // of the call or copy in the program
  double start = 0, end = 0;  // seconds since the engine's epoch
  double cpu = 0;             // for a copy: seconds of a core that it took from compute
};

// The copy streams, one per direction, each in order (contract: tests/exec/copy_engine_contract.h).
//  - start: the copy begins after everything the compute stream was given so far, and after earlier copies of its
//    direction to or from the same tier. Never blocks for the copy itself.
//  - submit: announces that compute is given its next work. An engine may hold copies back until submit, wait or
//    drain, to move adjacent ones as one; those share a failure.
//  - wait: work that compute is given afterwards begins after the copy has ended. Returns the copy's failure, if it
//    failed, each time it is asked. Copies after a failed one still run.
//  - drain: returns when every copy, and all work that compute was given, has ended, on the host's clock, with the
//    first failure since the last drain.
// Tickets increase within a direction. Destroying an engine ends every copy first.
class CopyEngine {
 public:
  virtual ~CopyEngine() = default;
  virtual Ticket start(const CopyRequest& request, int index) = 0;
  virtual void submit() {}
  virtual Status wait(Ticket ticket) = 0;
  virtual Status drain() = 0;
  // Seconds since an arbitrary start, on the clock of the spans.
  virtual double now() const = 0;
  // Notes the moment at which all work that compute was given so far has ended. `take_moments` returns, in order, the
  // moments noted since it was last called; valid after drain.
  virtual void note_moment() { moments_.push_back(now()); }
  virtual std::vector<double> take_moments() { return std::exchange(moments_, {}); }
  // Spans of copies that ended since the last call; valid after drain.
  virtual std::vector<Span> take_spans(plan::Direction direction) = 0;

 private:
  std::vector<double> moments_;
};

struct StepReport {
  Seconds step, stall;  // stall: time in which compute waits for copies
  Seconds copy_cpu;     // seconds of cores
  Bytes bytes_out, bytes_in;
  std::vector<Span> calls, copies_out, copies_in;
};

// Plays a step in parts, so that others can run work between its calls, as a plug-in's model does. Its arguments must
// outlive it. If it is destroyed before it has finished, copies in flight are drained. The report covers all parts and
// the time between them.
class StepRun {
 public:
  StepRun(const plan::Program& program, std::byte* arena, Compute& compute, CopyEngine& copies,
          const model::Dataflow& names);
  ~StepRun();
  StepRun(const StepRun&) = delete;
  StepRun& operator=(const StepRun&) = delete;

  // Runs the calls that remain before `end`, with the copies that start before it. A failed call or copy ends the
  // step, as in `run_step`.
  Status advance(plan::Boundary end);
  [[nodiscard]] bool ended() const { return ended_; }
  Result<StepReport> finish();

 private:
  Status arrive(plan::Boundary boundary);
  void abandon();
  tl::unexpected<Error> failed(const std::string& where, const Error& error);

  const plan::Program& program_;
  std::byte* arena_;
  Compute& compute_;
  CopyEngine& copies_;
  const model::Dataflow& names_;
  ByBoundary<std::size_t> starts_, waits_;  // copies
  std::vector<Ticket> tickets_;
  plan::CallIndex next_;
  bool ended_ = false;
  double began_;
  StepReport report_;
};

// Runs the calls of `program` before `end` (all of them for a whole step), with the copies that start before it.
// `arena` points at the program's arena. A failed call or copy ends the step: the error names it, copies in flight are
// drained, and the arena's fixed regions are as the calls left them. `names` provides names of classes and segments for
// errors.
Result<StepReport> run_step(const plan::Program& program, std::byte* arena, Compute& compute, CopyEngine& copies,
                            plan::Boundary end, const model::Dataflow& names = {});
inline Result<StepReport> run_step(const plan::Program& program, std::byte* arena, Compute& compute,
                                   CopyEngine& copies) {
  return run_step(program, arena, compute, copies, program.calls.end_index());
}

}  // namespace memo::exec
