// Shows a run's progress on stderr, and ends a run that hangs; train and compare share it.
#pragma once

#include "memo/libtorch/train/trainer.h"

namespace memo::cli {

// A request whose steps of `job` by `plan` are shown: on a terminal as a bar that redraws, elsewhere as a line for each
// step. FLOPs are the model's with causal attention (model::model_flops), without recomputation. A step without
// violations in check mode has a line of its own. When nothing has moved for the job's memory.watchdog, it says what is
// under way and exits with 5. `job` and `plan` must outlive the result.
libtorch::TrainRequest shown_run(const Path& out, const job::Job& job, const plan::Plan& plan);

}  // namespace memo::cli
