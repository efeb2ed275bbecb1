// The tiers of a plan, opened with what the job asks of them: checksums, encryption, a watchdog; and the copy streams.
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
  std::vector<std::unique_ptr<TierStore>> stores;  // one for each tier of the plan, none for those it does not use
  std::unique_ptr<CopyEngine> engine;              // between these and the device
};

// `faults` is of tests. `dog`, if given, watches the tiers and outlives them; `failed`, if given, is set when an
// operation fails.
Result<Tiers> open_tiers(const plan::Plan& plan, const job::MemoryLimits& memory, Backend& device,
                         const std::optional<Faults>& faults = {}, Watchdog* dog = nullptr,
                         const std::shared_ptr<std::atomic<bool>>& failed = nullptr);

}  // namespace memo::exec
