// The walk over a program's boundaries: waits, starts, call. One pass over calls and copies to sort copies by boundary,
// then no more work per call than the program asks for.
#include "memo/exec/executor.h"

#include <span>

#include "memo/base/check.h"
#include "memo/exec/by_boundary.h"
#include "memo/exec/names.h"

namespace memo::exec {
namespace {

const plan::Residency& residency_of(const plan::Program& program, int copy) {
  return program.residencies[static_cast<std::size_t>(program.copies[static_cast<std::size_t>(copy)].residency)];
}

const plan::Tensor& tensor_of(const plan::Program& program, int copy) {
  return program.tensors[static_cast<std::size_t>(residency_of(program, copy).tensor)];
}

CopyRequest request_of(const plan::Program& program, int index, std::byte* arena) {
  const plan::Copy& copy = program.copies[static_cast<std::size_t>(index)];
  return {.device = arena + residency_of(program, index).offset.value(),
          .bytes = round_up(tensor_of(program, index).bytes, plan::copy_alignment),
          .direction = copy.direction,
          .tier = copy.tier,
          .tier_offset = copy.tier_offset};
}

// Ends a failed step: nothing is in flight any more, and the engine keeps no span of it for the next step.
tl::unexpected<Error> abandon(CopyEngine& copies, const std::string& where, const Error& error) {
  (void)copies.drain();  // the error that ended the step is the one that is reported
  copies.take_spans(plan::Direction::out);
  copies.take_spans(plan::Direction::in);
  copies.take_moments();
  return fail(error.kind, where + ": " + error.message);
}

}  // namespace

Result<StepReport> run_step(const plan::Program& program, std::byte* arena, Compute& compute, CopyEngine& copies,
                            std::size_t calls, const model::Dataflow& names) {
  const std::size_t all = program.calls.size();
  MEMO_CHECK(calls <= all, "a step runs calls of its program");
  for (const plan::Copy& copy : program.copies)
    MEMO_CHECK(0 <= copy.at && copy.at < copy.before && static_cast<std::size_t>(copy.before) <= all,
               "a copy starts at a boundary of the program and is waited for at a later one");
  const ByBoundary starts(program.copies, &plan::Copy::at, all);
  const ByBoundary waits(program.copies, &plan::Copy::before, all);
  std::vector<Ticket> tickets(program.copies.size());
  StepReport report;

  // Two moments a boundary: compute has ended the call before it, and the copies that the call behind it waits for.
  const double began = copies.now();
  for (std::size_t k = 0; k <= calls; ++k) {
    copies.note_moment();
    for (const int i : waits.at(k))
      if (const Status ended = copies.wait(tickets[static_cast<std::size_t>(i)]); !ended)
        return abandon(copies, name_of_copy(names, program, static_cast<std::size_t>(i)), ended.error());
    copies.note_moment();
    if (k == calls) break;
    for (const int i : starts.at(k)) {
      const CopyRequest request = request_of(program, i, arena);
      (request.direction == plan::Direction::out ? report.bytes_out : report.bytes_in) += request.bytes;
      tickets[static_cast<std::size_t>(i)] = copies.start(request, i);
    }
    copies.submit();
    if (const Status ran = compute.run(static_cast<int>(k)); !ran)
      return abandon(copies, name_of_call(names, program, k), ran.error());
  }
  MEMO_CHECKED(copies.drain());
  report.step = Seconds(copies.now() - began);
  const std::vector<double> moments = copies.take_moments();
  MEMO_CHECK(moments.size() == 2 * (calls + 1), "an engine tells each moment that it was to note");
  report.calls.reserve(calls);
  for (std::size_t k = 0; k <= calls; ++k) {
    report.stall += Seconds(moments[2 * k + 1] - moments[2 * k]);
    if (k < calls)
      report.calls.push_back({.index = static_cast<int>(k), .start = moments[2 * k + 1], .end = moments[2 * k + 2]});
  }
  report.copies_out = copies.take_spans(plan::Direction::out);
  report.copies_in = copies.take_spans(plan::Direction::in);
  for (const auto* spans : {&report.copies_out, &report.copies_in})
    for (const Span& span : *spans) report.copy_cpu += Seconds(span.cpu);
  return report;
}

}  // namespace memo::exec
