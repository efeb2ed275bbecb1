// The tiers of a plan, opened with what the job asks of them: checksums, encryption, a watchdog.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "memo/exec/faulty_tier.h"
#include "memo/exec/tier.h"
#include "memo/exec/watchdog.h"
#include "memo/job/job.h"
#include "memo/plan/plan.h"
#include "memo/torch/device.h"

namespace memo::edge {

// One for each tier of the plan, none for those that it does not use. `faults` is of tests. `dog`, if given, watches
// them and outlives them; `failed` is set when an operation fails.
Result<std::vector<std::unique_ptr<exec::TierStore>>> open_tiers(const plan::Plan& plan,
                                                                 const job::MemoryLimits& memory, Device& device,
                                                                 const std::optional<exec::Faults>& faults,
                                                                 exec::Watchdog* dog,
                                                                 const std::shared_ptr<std::atomic<bool>>& failed);

}  // namespace memo::edge
