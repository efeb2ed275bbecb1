// Lets check mode fill and read the GPU's memory (memo/exec/checked_step.h).
#pragma once

#include <memory>

#include "memo/cuda/host_memory.h"
#include "memo/exec/checked_step.h"

namespace memo::cuda {

// Fills and reads in the order of the compute stream; the host waits for each read. The device must outlive it.
Result<std::unique_ptr<exec::ArenaBytes>> arena_bytes(const Device& device);

}  // namespace memo::cuda
