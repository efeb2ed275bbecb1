#include "memo/torch/steady_step.h"

namespace memo::edge {

Result<StepResult> steady_step(Session& session, const std::vector<Sample>& samples, std::int64_t update, double lr,
                               Watch watch, const std::function<void(const std::string&)>& note) {
  MEMO_TRY(StepResult result, session.step(samples, update, lr, watch));
  if (result.finite || !session.unchanged()) return result;
  MEMO_TRY(StepResult again, session.step(samples, update, lr, Watch::numbers));
  if (again.finite)
    note(
        "loss or gradient norm were not finite, and are when the step is played again: memory or a core of this "
        "machine "
        "fails");
  again.check = std::move(result.check);
  return again;
}

}  // namespace memo::edge
