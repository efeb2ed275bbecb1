// Ctrl-C and the signals by which schedulers and terminals say that they are about to end a process, for the verbs that
// end cleanly.
#pragma once

#include <atomic>

namespace memo::cli {

// Counts these signals from now on. The first asks for a clean end: after the step, with the best packing so far.
//   SIGINT, SIGTERM    the second of them ends at once
//   SIGUSR1, SIGUSR2   a scheduler's warning, as it is told to send; the same once more ends at once
//   SIGHUP, SIGXCPU    a terminal that closes, CPU time that is spent: they come several times, and only ask
const std::atomic<int>& interrupts();

}  // namespace memo::cli
