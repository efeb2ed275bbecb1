// Lets check mode fill the GPU's memory and look at it (memo/exec/checked_step.h).
#pragma once

#include <cstdint>
#include <memory>

#include "memo/cuda/host_memory.h"
#include "memo/exec/checked_step.h"

namespace memo::cuda {

// Gives the stream a kernel that makes the look `number`: *found becomes the least of itself and number << 32 | i, of
// all words i that have all bits set. A failure shows at the stream's next check.
using LookForPoison = void (*)(const exec::Look& look, std::int64_t number, std::uint64_t* found, cudaStream_t stream);

// Fills and looks in the order of the compute stream; the host waits in `found` alone. The device must outlive it.
Result<std::unique_ptr<exec::ArenaBytes>> arena_bytes(const Device& device, LookForPoison look);

}  // namespace memo::cuda
