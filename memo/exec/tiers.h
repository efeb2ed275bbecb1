// Opens a plan's tiers with the checksums, encryption and watchdog that the job asks for, and their copy streams.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "memo/exec/backend.h"
#include "memo/exec/executor.h"
#include "memo/exec/faulty_tier.h"
#include "memo/exec/tier.h"
#include "memo/exec/watchdog.h"
#include "memo/job/job.h"
#include "memo/plan/plan.h"

namespace memo::exec {

struct Tiers {
  std::vector<std::unique_ptr<TierStore>> stores;  // one for each tier of the plan; null: not used
  std::unique_ptr<CopyEngine> engine;              // copies between the stores and the device
};

// `faults`: for tests. `dog`, if given, watches the tiers and must outlive them. `failed`, if given, is set when an
// operation fails.
Result<Tiers> open_tiers(const plan::Plan& plan, const job::MemoryLimits& memory, Backend& device,
                         const std::optional<Faults>& faults = {}, Watchdog* dog = nullptr,
                         const std::shared_ptr<std::atomic<bool>>& failed = nullptr);

}  // namespace memo::exec
