// Repeats a step on tier failures, then on values that are not finite.
#include "memo/libtorch/train/steady_step.h"

namespace memo::libtorch {

namespace {

Result<StepResult> with_retries(Session& session, const std::vector<Sample>& samples, std::int64_t update, double lr,
                                Watch watch, const std::function<void(const std::string&)>& note) {
  constexpr int times = 3;
  for (int i = 1;; ++i) {
    Result<StepResult> result = session.step(samples, update, lr, watch);
    if (result || !session.tier_failed() || !session.unchanged() || i == times) return result;
    note(result.error().message + "; the step is played again");
  }
}

}  // namespace

Result<StepResult> steady_step(Session& session, const std::vector<Sample>& samples, std::int64_t update, double lr,
                               Watch watch, const std::function<void(const std::string&)>& note) {
  MEMO_TRY(StepResult result, with_retries(session, samples, update, lr, watch, note));
  if (result.finite || !session.unchanged()) return result;
  MEMO_TRY(StepResult again, with_retries(session, samples, update, lr, Watch::numbers, note));
  if (again.finite)
    note(
        "loss or gradient norm were not finite, and are when the step is played again: memory or a core of this "
        "machine "
        "fails");
  again.check = std::move(result.check);
  return again;
}

}  // namespace memo::libtorch
