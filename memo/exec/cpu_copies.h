// Copy streams on the CPU: a worker thread for each direction, while compute runs on the calling thread.
#pragma once

#include <memory>
#include <vector>

#include "memo/exec/executor.h"
#include "memo/exec/tier.h"

namespace memo::exec {

// `tiers[i]` is the store of the program's tier i, which must outlive the engine.
std::unique_ptr<CopyEngine> cpu_copy_engine(std::vector<TierStore*> tiers);

}  // namespace memo::exec
