// One run of a small plan on a tier that fails, guarded as a training run is: checksums, watchdog, names.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "memo/exec/checksums.h"
#include "memo/exec/cpu_copies.h"
#include "memo/exec/faulty_tier.h"
#include "memo/exec/watchdog.h"
#include "tests/exec/fake_compute.h"
#include "tests/exec/small_plans.h"

namespace memo::exec {

struct Trial {
  std::vector<Fault> injected;
  std::string error;    // that ended the run, "" when it went through
  std::string stalled;  // what the watchdog said, "" when it said nothing
  std::uint64_t digest = 0;
};

// Two steps. A stall lasts until the watchdog has spoken; `bound` is the watchdog's.
inline Trial run_with_faults(const plan::Plan& plan, const Faults& faults, Seconds bound, bool checksums = true) {
  const Bytes bytes = plan.program.tier_bytes.at(0);
  std::vector<std::byte> arena(static_cast<std::size_t>(plan.program.arena.value()));
  FakeCompute compute(plan, arena.data());
  Trial trial;
  auto faulty = std::make_unique<FaultyTier>(*host_tier(bytes), faults);
  FaultyTier& injector = *faulty;
  Watchdog dog(bound, [&](const std::string& what) {
    trial.stalled = what;
    injector.end_stalls();
  });
  std::unique_ptr<TierStore> tier = watched(std::move(faulty), dog, "disk");
  if (checksums) tier = checksummed(std::move(tier), "disk");
  const auto engine = cpu_copy_engine({tier.get()});
  const auto copies = watched(*engine, dog, plan.program, plan.profile.flow);
  Status status = compute.initialise({tier.get()});
  for (int step = 0; step < 2 && status; ++step) {
    const auto ran =
        run_step(plan.program, arena.data(), compute, *copies, plan.program.calls.end_index(), plan.profile.flow);
    if (!ran) status = tl::unexpected(ran.error());
  }
  if (!status) trial.error = status.error().message;
  trial.injected = injector.injected();
  trial.digest = compute.digest;
  return trial;
}

}  // namespace memo::exec
