// Progress of a training run on stderr.
#pragma once

#include "memo/torch/trainer.h"

namespace memo::cli {

// A bar that redraws on a terminal; elsewhere a line a step.
void show_step(const edge::StepLine& line);

}  // namespace memo::cli
