// Reads a plan or run folder, validates the plan and simulates it.
#include "memo/report/subject.h"

#include <fmt/format.h>

#include "memo/check/validate.h"
#include "memo/report/run_json.h"
#include "memo/report/stalls.h"

namespace memo::report {
namespace {

bool there(const Path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

Result<plan::Plan> read_checked_plan(const Path& path) {
  MEMO_TRY(plan::Plan plan, plan::read_plan(path));
  const std::vector<std::string> failures = check::validate(plan, 1);
  if (!failures.empty())
    return bad_input(fmt::format("{}: the plan is wrong: {}; 'memo check' says more", path.string(), failures.front()));
  return plan;
}

}  // namespace

Result<Subject> read_subject(const Path& path) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  if (folder && !there(path / "plan.json"))
    return bad_input(fmt::format("{}: is not a run folder, it has no plan.json; name a folder that 'memo train' wrote",
                                 path.string()));
  Subject subject;
  subject.name = path.string();
  MEMO_TRY(subject.plan, read_checked_plan(folder ? path / "plan.json" : path));
  subject.predicted = sim::simulate(subject.plan.profile, subject.plan.program);
  if (!folder) return subject;
  if (const Path file = path / "metrics.jsonl"; there(file)) {
    MEMO_TRY(subject.steps, read_metrics(file));
  }
  if (const Path file = path / "summary.json"; there(file)) {
    MEMO_TRY(subject.measured, read_summary(file));
  }
  if (const Path file = path / "timeline.json"; there(file)) {
    MEMO_TRY(subject.timeline, read_timeline(file, subject.plan.program));
    for (const Stall& stall : stalls(subject.plan.program, *subject.timeline)) subject.timeline->stall += stall.seconds;
  }
  if (const Path file = path / "eval.json"; there(file)) {
    MEMO_TRY(subject.loss_by_position, read_loss_by_position(file));
  }
  return subject;
}

}  // namespace memo::report
