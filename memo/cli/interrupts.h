// Ctrl-C and a scheduler's SIGTERM, for the verbs that end cleanly.
#pragma once

#include <atomic>

namespace memo::cli {

// Counts SIGINT and SIGTERM from now on: the first asks for a clean end (after the step; with the best packing so far),
// the second ends at once.
const std::atomic<int>& interrupts();

}  // namespace memo::cli
