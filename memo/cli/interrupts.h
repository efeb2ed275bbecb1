// Handles Ctrl-C and the signals by which schedulers and terminals announce the end of a process, for verbs that end
// cleanly.
#pragma once

#include <atomic>

namespace memo::cli {

// Counts these signals from now on. The first asks for a clean end: after the step, or with the best packing so far.
//   SIGINT, SIGTERM    the second one ends the process at once
//   SIGUSR1, SIGUSR2   a scheduler's warning, as configured there; the same signal once more ends the process at once
//   SIGHUP, SIGXCPU    a terminal closes, CPU time is used up: they come several times, and only ask
const std::atomic<int>& interrupts();

}  // namespace memo::cli
