// Progress of a training run on stderr, and Ctrl-C.
#pragma once

#include <atomic>

#include "memo/torch/trainer.h"

namespace memo::cli {

// A bar that redraws on a terminal; elsewhere a line a step.
void show_step(const edge::StepLine& line);

// Counts SIGINT and SIGTERM from now on: the first asks for a clean end after the step, the second ends at once.
const std::atomic<int>& interrupts();

}  // namespace memo::cli
