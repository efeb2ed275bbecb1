// Opens a small tier like the run's and probes it under a stand-in for compute.
#include "memo/libtorch/measure/tier_profile.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "memo/base/text.h"
#include "memo/exec/probe.h"
#include "memo/plan/program.h"

namespace memo::libtorch {
namespace {

using Say = std::function<void(const std::string&)>;

// A tier's rates through the copy streams that a run uses.
Status add_rates(const char* name, exec::TierStore& store, Bytes capacity, Bytes probe, Bytes request,
                 std::int64_t alignment, Device& device, plan::Profile& profile) {
  MEMO_TRY(const auto engine, device.copy_engine({&store}));
  MEMO_TRY(const Arena buffer, device.map(request * 2));
  const auto options = at::dtype(at::kFloat).device(device.of_tensors());
  at::Tensor a, b, c;
  device.run([&] { a = at::full({512, 512}, 0.5, options), b = a.clone(), c = at::empty({512, 512}, options); });
  const auto work = [&] {
    device.run([&] { at::mm_out(c, a, b); });
    device.finish();
  };
  MEMO_TRY(const exec::TierRates rates, exec::measure_tier(*engine, buffer.data(), probe, request, work));
  profile.tiers.push_back({name, capacity, rates.write, rates.read, rates.write_with_read, rates.read_with_write,
                           rates.compute_slowdown, alignment});
  return {};
}

Status add_disk(plan::Profile& profile, const job::MemoryLimits& memory, Device& device, const Say& say) {
  std::error_code error;
  const auto space = std::filesystem::space(*memory.disk, error);
  if (error)
    return bad_input(
        fmt::format("memory.disk = \"{}\": {}; name an existing folder", memory.disk->string(), error.message()));
  const Bytes free(static_cast<std::int64_t>(space.available / 10 * 9));
  const Bytes capacity = memory.disk_limit > Bytes(0) ? memory.disk_limit : free;
  if (capacity > Bytes(static_cast<std::int64_t>(space.available)))
    return bad_input(fmt::format("memory.disk_limit = {}, but {} has {} free: free some space or lower the limit",
                                 format_bytes(capacity), memory.disk->string(),
                                 format_bytes(Bytes(static_cast<std::int64_t>(space.available)))));
  if (say) say("profile: disk tier");
  constexpr std::int64_t page = 4096;                                            // alignment of direct I/O
  const std::int64_t half = std::max(page, capacity.value() / 2 / page * page);  // a probe has two requests at least
  const Bytes request = std::min(Bytes(8 << 20), Bytes(half));
  const Bytes probe = round_up(std::max(request * 2, std::min(Bytes(192 << 20), capacity)), page);
  MEMO_TRY(const auto store, exec::disk_tier(*memory.disk, probe));
  return add_rates("disk", *store, capacity, probe, round_up(request, page), page, device, profile);
}

Status add_host(plan::Profile& profile, const job::MemoryLimits& memory, Device& device, const Say& say) {
  if (say) say("profile: host tier");
  constexpr Bytes request(16 << 20);
  const Bytes capacity = memory.host_limit, probe = request * 8;
  MEMO_TRY(const auto store, device.host_tier(probe));
  return add_rates("host", *store, capacity, probe, request, plan::copy_alignment, device, profile);
}

}  // namespace

Status add_tier(plan::Profile& profile, const job::MemoryLimits& memory, Device& device, const Say& say) {
  if (memory.host_limit > Bytes(0) && memory.disk)
    return bad_input("a plan has one tier so far: set memory.host_limit or memory.disk, not both");
  if (memory.host_limit > Bytes(0)) return add_host(profile, memory, device, say);
  return memory.disk ? add_disk(profile, memory, device, say) : Status();
}

}  // namespace memo::libtorch
