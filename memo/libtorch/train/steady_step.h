// Plays a step again after a failure from which a run can recover.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "memo/libtorch/run/session.h"

namespace memo::libtorch {

// Plays a step. When the slow tier fails before any parameter is updated, plays it again, up to three times in all, and
// notes each failure. When loss or gradient norm are not finite, plays it once more from the same state and looks at
// what each call writes, so that the result names the first value that is not finite (`not_finite`). If everything is
// finite the second time, that result counts, and a note says that the machine failed, since the same step has the same
// bits.
Result<StepResult> steady_step(Session& session, const std::vector<Sample>& samples, std::int64_t update, double lr,
                               Watch watch, const std::function<void(const std::string&)>& note);

}  // namespace memo::libtorch
