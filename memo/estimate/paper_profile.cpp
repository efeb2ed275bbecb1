// Makes a setup of a job, models its profile, and chooses the sizes that a run would measure.
#include "memo/estimate/paper_profile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "memo/estimate/profile.h"
#include "memo/estimate/run_sizes.h"
#include "memo/estimate/strategies.h"
#include "memo/plan/for_job.h"
#include "memo/plan/program.h"

namespace memo::estimate {
namespace {

Result<Setup> setup_of(const job::Job& job, const Hardware& hardware) {
  Setup setup;
  MEMO_TRY(setup.shape, model::job_shape(job));
  setup.model_name = setup.shape.family;
  setup.hardware = hardware;
  setup.context = job.train.context;
  if (job.model.dtype == job::DType::float32) setup.element_bytes = 4, setup.state = State::master;
  setup.recompute = Recompute::none;
  setup.groups = job.train.head_groups;
  setup.loss_tile = job.train.loss_tile;
  setup.host_updates = job.memory.host_limit > Bytes(0) && job.memory.checksums != job::Checksums::all;
  setup.attention = job.train.attention == "auto" ? attention_of_memo(setup) : job.train.attention;
  if (std::ranges::find(hardware.attention, setup.attention, &AttentionRate::kernel) == hardware.attention.end()) {
    std::vector<std::string> known;
    for (const AttentionRate& rate : hardware.attention) known.push_back(rate.kernel);
    return bad_input(fmt::format("train.attention = \"{}\": of {} the rates of {} are known", job.train.attention,
                                 hardware.name, fmt::join(known, ", ")));
  }
  return setup;
}

Status add_tiers(const job::MemoryLimits& memory, const Hardware& hardware, plan::Profile& profile) {
  const auto add = [&](const char* name, Bytes capacity, const TierCopies& copies) {
    profile.tiers.push_back({name, capacity, copies.write, copies.read, copies.write_with_read, copies.read_with_write,
                             copies.compute_slowdown, plan::copy_alignment});
  };
  if (memory.host_limit > Bytes(0)) add("host", memory.host_limit, hardware.host);
  if (!memory.disk) return {};
  if (memory.disk_limit == Bytes(0))
    return bad_input(
        fmt::format("memory.disk_limit is not set: how much a disk beside {} holds is not known here", hardware.name));
  add("disk", memory.disk_limit, hardware.disk);
  return {};
}

}  // namespace

job::Job with_limit_of(job::Job job, const Hardware& hardware) {
  if (job.memory.device_limit == Bytes(0)) job.memory.device_limit = hardware.memory - hardware.runtime;
  return job;
}

Result<plan::Profile> paper_profile(const job::Job& job, const Hardware& hardware) {
  MEMO_TRY(Setup setup, setup_of(job, hardware));
  setup.block = job.train.block;
  std::vector<model::BlockTime> times = choose_sizes(setup);
  plan::Profile profile = model_profile(setup).profile;
  profile.device = hardware.name + plan::paper_mark;
  profile.blocks_measured = std::move(times);
  MEMO_CHECKED(add_tiers(job.memory, hardware, profile));
  MEMO_CHECKED(plan::check_for_job(profile, job, "the profile on paper"));
  return profile;
}

}  // namespace memo::estimate
