// What train and compare share: a run that shows its progress on stderr, and ends when nothing moves any more.
#pragma once

#include "memo/libtorch/train/trainer.h"

namespace memo::cli {

// Shows each step of `job` by `plan`: a bar that redraws on a terminal; elsewhere a line a step. FLOPs are those of the
// model with causal attention (model::model_flops), nothing computed again counted. A step in check mode that ran clean
// has a line of its own. When nothing has moved for the job's memory.watchdog, says what is under way and exits: 5.
// Both given must outlive the result.
libtorch::TrainRequest shown_run(const Path& out, const job::Job& job, const plan::Plan& plan);

}  // namespace memo::cli
