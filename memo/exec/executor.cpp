// The walk over a program's boundaries: waits, starts of copies, call. Copies are sorted by boundary first, so that the
// work for each call is only that of its own copies.
#include "memo/exec/executor.h"

#include "memo/base/check.h"
#include "memo/exec/names.h"

namespace memo::exec {
namespace {

CopyRequest request_of(const plan::Program& program, const plan::Copy& copy, std::byte* arena) {
  const plan::Residency& residency = program.residencies[copy.residency];
  return {.device = arena + residency.offset.value(),
          .bytes = round_up(program.tensors[residency.tensor].bytes, plan::copy_alignment),
          .direction = copy.direction,
          .tier = copy.tier,
          .tier_offset = copy.tier_offset};
}

}  // namespace

StepRun::StepRun(const plan::Program& program, std::byte* arena, Compute& compute, CopyEngine& copies,
                 const model::Dataflow& names)
    : program_(program),
      arena_(arena),
      compute_(compute),
      copies_(copies),
      names_(names),
      starts_(program.copies, &plan::Copy::at, program.calls.size()),
      waits_(program.copies, &plan::Copy::before, program.calls.size()),
      tickets_(program.copies.size()),
      began_(copies.now()) {
  for (const plan::Copy& copy : program.copies)
    MEMO_CHECK(copy.at.exists() && copy.at < copy.before && copy.before <= program.calls.end_index(),
               "a copy starts at a boundary of the program and is waited for at a later one");
}

StepRun::~StepRun() {
  if (!ended_) abandon();
}

// After this nothing is in flight, and the engine has no spans of this step left for the next one.
void StepRun::abandon() {
  ended_ = true;
  (void)copies_.drain();  // the step's own error is the one to report
  copies_.take_spans(plan::Direction::out);
  copies_.take_spans(plan::Direction::in);
  copies_.take_moments();
}

tl::unexpected<Error> StepRun::failed(const std::string& where, const Error& error) {
  abandon();
  return fail(error.kind, where + ": " + error.message);
}

// Notes two moments at a boundary: the end of the call before it, and the end of the copies for which the next call
// waits.
Status StepRun::arrive(plan::Boundary boundary) {
  copies_.note_moment();
  for (const std::size_t i : waits_.at(boundary))
    if (const Status ended = copies_.wait(tickets_[i]); !ended)
      return failed(name_of_copy(names_, program_, i), ended.error());
  copies_.note_moment();
  return {};
}

Status StepRun::advance(plan::Boundary end) {
  MEMO_CHECK(!ended_ && end <= program_.calls.end_index(), "a step that has not ended runs calls of its program");
  for (; next_ < end; ++next_) {
    MEMO_CHECKED(arrive(next_));
    for (const std::size_t i : starts_.at(next_)) {
      const CopyRequest request = request_of(program_, program_.copies[i], arena_);
      (request.direction == plan::Direction::out ? report_.bytes_out : report_.bytes_in) += request.bytes;
      tickets_[i] = copies_.start(request, static_cast<int>(i));
    }
    copies_.submit();
    if (const Status ran = compute_.run(next_); !ran) return failed(name_of_call(names_, program_, next_), ran.error());
  }
  return {};
}

Result<StepReport> StepRun::finish() {
  MEMO_CHECKED(arrive(next_));
  ended_ = true;
  MEMO_CHECKED(copies_.drain());
  report_.step = Seconds(copies_.now() - began_);
  const std::vector<double> moments = copies_.take_moments();
  const std::size_t made = at(next_.value());
  MEMO_CHECK(moments.size() == 2 * (made + 1), "an engine tells each moment that it was to note");
  report_.calls.reserve(made);
  for (std::size_t k = 0; k <= made; ++k) {
    report_.stall += Seconds(moments[2 * k + 1] - moments[2 * k]);
    if (k < made)
      report_.calls.push_back({.index = static_cast<int>(k), .start = moments[2 * k + 1], .end = moments[2 * k + 2]});
  }
  report_.copies_out = copies_.take_spans(plan::Direction::out);
  report_.copies_in = copies_.take_spans(plan::Direction::in);
  for (const auto* spans : {&report_.copies_out, &report_.copies_in})
    for (const Span& span : *spans) report_.copy_cpu += Seconds(span.cpu);
  return std::move(report_);
}

Result<StepReport> run_step(const plan::Program& program, std::byte* arena, Compute& compute, CopyEngine& copies,
                            plan::Boundary end, const model::Dataflow& names) {
  StepRun run(program, arena, compute, copies, names);
  MEMO_CHECKED(run.advance(end));
  return run.finish();
}

}  // namespace memo::exec
