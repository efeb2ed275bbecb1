// Progress of a training run on stderr.
#pragma once

#include <functional>

#include "memo/torch/trainer.h"

namespace memo::cli {

// Shows each step of `job` by `plan`: a bar that redraws on a terminal; elsewhere a line a step. FLOPs are those of the
// model with causal attention (model::model_flops), nothing computed again counted.
std::function<void(const edge::StepLine&)> step_progress(const job::Job& job, const plan::Plan& plan);

}  // namespace memo::cli
