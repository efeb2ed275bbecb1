// Opens a small tier like the run's and probes it under a stand-in for compute.
#include "memo/libtorch/measure/tier_profile.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "memo/base/text.h"
#include "memo/plan/program.h"

namespace memo::libtorch {
namespace {

using Say = std::function<void(const std::string&)>;

// A product of square matrices that takes some milliseconds, as a stand-in for calls.
class Product {
 public:
  explicit Product(Device& device) : device_(device) {
    constexpr double enough = 2e-3;  // seconds
    for (std::int64_t width = 512; width <= 8192; width *= 2) {
      make(width);
      (*this)();  // the first loads the kernel
      const auto start = Clock::now();
      (*this)();
      if (std::chrono::duration<double>(Clock::now() - start).count() > enough) return;
    }
  }
  void operator()() {
    device_.run([&] { at::mm_out(c_, a_, b_); });
    device_.finish();
  }

 private:
  using Clock = std::chrono::steady_clock;
  void make(std::int64_t width) {
    const at::Device place = device_.of_tensors();
    const auto options = at::dtype(place.is_cpu() ? at::kFloat : at::kBFloat16).device(place);
    device_.run([&] {
      a_ = at::full({width, width}, 0.5, options);
      b_ = a_.clone();
      c_ = at::empty({width, width}, options);
    });
  }

  Device& device_;
  at::Tensor a_, b_, c_;
};

Status add_rates(const char* name, exec::TierStore& store, Bytes capacity, Bytes probe, Bytes request,
                 std::int64_t alignment, Device& device, plan::Profile& profile) {
  MEMO_TRY(const exec::TierRates rates, measure_copies(device, store, probe, request));
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

Result<exec::TierRates> measure_copies(Device& device, exec::TierStore& store, Bytes probe, Bytes request) {
  MEMO_TRY(const auto engine, device.copy_engine({&store}));
  MEMO_TRY(const Arena buffer, device.map(request * 2));
  return exec::measure_tier(*engine, buffer.data(), probe, request, Product(device));
}

Status add_tier(plan::Profile& profile, const job::MemoryLimits& memory, Device& device, const Say& say) {
  if (memory.host_limit > Bytes(0) && memory.disk)
    return bad_input("a plan has one tier so far: set memory.host_limit or memory.disk, not both");
  if (memory.host_limit > Bytes(0)) return add_host(profile, memory, device, say);
  return memory.disk ? add_disk(profile, memory, device, say) : Status();
}

}  // namespace memo::libtorch
