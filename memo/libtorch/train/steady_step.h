// What is done about a step that went wrong.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "memo/libtorch/run/session.h"

namespace memo::libtorch {

// Plays a step. Where the slow tier fails before any parameter is updated, it is played again, up to three times in
// all; each failure that is tried to be mended is noted. Where loss or gradient norm are not finite it is played once
// more from the same state, looking at what each call writes: the result then names the first that is not
// (`not_finite`). When all is finite the second time, that result counts, and a note says that the machine failed: the
// same step has the same bits.
Result<StepResult> steady_step(Session& session, const std::vector<Sample>& samples, std::int64_t update, double lr,
                               Watch watch, const std::function<void(const std::string&)>& note);

}  // namespace memo::libtorch
