// Placement against its peers by simulated step time: MEMO's alpha, and the best of all swapped, all recomputed and all
// kept, under the same limit, over shapes, contexts, tiers and limits. Then the placement program's own time and proved
// gap at 126 layers of 1024 blocks; and what packing in levels loses against one flat instance. Prints Markdown tables;
// ends with 1 when a peer beats `memo`.
#include "memo/planner/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "../tests/plan/synthetic_profile.h"
#include "memo/base/text.h"
#include "memo/pack/pack.h"
#include "memo/planner/build.h"
#include "memo/planner/planner.h"

namespace memo {
namespace {

using planner::Placement;

// The fastest step of a placement over the planner's own choices of pace, if it fits.
std::optional<double> fastest(const plan::Profile& profile, const Placement& placement, Bytes limit) {
  std::optional<double> best;
  for (const int slots : {1, 2, 4, 8})
    for (const bool relaxed : {false, true}) {
      const planner::Built built = planner::build_program(profile, placement.classes, {slots, relaxed});
      const bool tier_fits =
          built.program.tier_bytes.empty() || built.program.tier_bytes[0] <= profile.tiers[0].capacity;
      if (built.program.arena > limit || !tier_fits) continue;
      const double seconds = sim::simulate(profile, built.program).step.value();
      if (!best || seconds < *best) best = seconds;
    }
  return best;
}

std::string seconds_or_dash(std::optional<double> seconds) { return seconds ? fmt::format("{:.2f}", *seconds) : "-"; }

struct Totals {
  int configurations = 0, beaten = 0, ahead_of_alpha = 0, ahead_of_extremes = 0;
  double nesting = 0;  // the most that a plan's peak is above the bound of its flat packing problem, relative
};

// `share`: of the way from the least peak to that of keeping everything.
void compare(const char* name, const plan::SyntheticOptions& options, double share, Totals& totals) {
  const plan::Profile profile = plan::synthetic_profile(options);
  const Placement kept = planner::place_resident(profile), again = planner::place_recompute(profile, -1);
  const Placement swapped = planner::place_swapped(profile, 0), alpha = planner::place_alpha(profile, 0);
  const Bytes high = planner::build_program(profile, kept.classes, {1, false}).program.arena;
  const Bytes low = planner::build_program(profile, swapped.classes, {2, false}).program.arena;
  const Bytes limit = low + Bytes(static_cast<std::int64_t>(share * static_cast<double>((high - low).value())));
  const auto memo = planner::make_plan(profile, {"memo", limit, 0, 1});
  if (!memo) return;
  const double ours = memo->predicted.step.value();
  const std::optional<double> by_alpha = fastest(profile, alpha, limit);
  std::optional<double> extreme;
  for (const Placement& placement : {kept, again, swapped})
    if (const auto seconds = fastest(profile, placement, limit); seconds && (!extreme || *seconds < *extreme))
      extreme = seconds;
  constexpr double equal = 1.002;  // the planner takes the smaller plan of two that differ by less
  ++totals.configurations;
  const auto bytes = [](Bytes value) { return static_cast<double>(value.value()); };
  const double nesting = bytes(memo->predicted.device_peak) / bytes(memo->predicted.device_lower_bound) - 1;
  totals.nesting = std::max(totals.nesting, nesting);
  const auto beats = [&](std::optional<double> peer) { return peer && *peer * equal < ours; };
  totals.beaten += beats(by_alpha) || beats(extreme) ? 1 : 0;
  totals.ahead_of_alpha += !by_alpha || ours * equal < *by_alpha ? 1 : 0;
  totals.ahead_of_extremes += !extreme || ours * equal < *extreme ? 1 : 0;
  fmt::print("| {} | {} | {} | {} | {:.2f} | {} | {} | {:.2f} | {:.2f} |\n", name, options.context,
             format_rate(BytesPerSecond(options.bandwidth)), format_bytes(limit), ours, seconds_or_dash(by_alpha),
             seconds_or_dash(extreme), 100 * memo->predicted.placement_gap, 100 * nesting);
}

void time_large() {
  plan::SyntheticOptions options{.hidden = 4096, .layers = 126, .heads = 32, .kv_heads = 8, .ffn = 14336, .groups = 8};
  options.context = 1 << 20, options.block = 1024, options.flops = 4e14;
  fmt::print("\n| 126 layers x 1024 blocks, tier | kept at most | seconds | proved gap |\n|---|---|---|---|\n");
  for (const double bandwidth : {5e9, 2.5e10})
    for (const std::int64_t budget : {std::int64_t{0}, std::int64_t{20} << 30}) {
      options.bandwidth = bandwidth;
      const plan::Profile profile = plan::synthetic_profile(options);
      const auto start = std::chrono::steady_clock::now();
      const Placement placement = planner::place_optimal(profile, 0, Bytes(budget));
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      fmt::print("| {} | {} | {:.2f} | {:.3f} % |\n", format_rate(BytesPerSecond(bandwidth)),
                 format_bytes(Bytes(budget)), seconds, 100 * placement.gap);
    }
}

// Every request of the step in one instance, with none of the levels' grouping: fixed memory, residencies (blocks of a
// sequence apart from each other), and the transients of each call. A call takes as many units of time as the longest
// trace has events.
pack::Instance flat_instance(const plan::Profile& profile, const plan::Program& program) {
  std::int64_t unit = 1;
  for (const plan::Trace& trace : profile.traces)
    for (const plan::Request& request : trace.requests)
      unit = std::max<std::int64_t>(unit, std::max(request.born, request.dies) + 1);
  pack::Instance instance;
  const std::int64_t calls = program.calls.end_index().value();
  for (const plan::Fixed& fixed : profile.fixed) instance.push_back({0, calls * unit, fixed.bytes.value(), 1, {}});
  for (const plan::Residency& r : program.residencies)
    if (r.begin < r.end)
      instance.push_back(
          {r.begin.value() * unit, r.end.value() * unit, program.tensors[r.tensor].bytes.value(), 1, {}});
  for (const plan::CallIndex k : program.calls.indices())
    for (const plan::Request& request : profile.traces[program.calls[k].trace].requests)
      if (!request.cls.exists() && request.born < request.dies)
        instance.push_back(
            {k.value() * unit + request.born, k.value() * unit + request.dies, request.bytes.value(), 1, {}});
  return instance;
}

void compare_nesting() {
  fmt::print(
      "\n| shape, context | limit | flat buffers | bound | in levels over bound % | flat over bound % | s |\n"
      "|---|---|---|---|---|---|---|\n");
  for (const std::int64_t context : {8192, 32768})
    for (const double share : {0.02, 0.2, 0.5}) {
      const plan::Profile profile = plan::synthetic_profile({.context = context, .bandwidth = 5e8});
      const auto arena = [&](const Placement& placement) {
        return planner::build_program(profile, placement.classes, {1, false}).program.arena.value();
      };
      const std::int64_t low = arena(planner::place_swapped(profile, 0)),
                         high = arena(planner::place_resident(profile));
      const Bytes limit(low + static_cast<std::int64_t>(share * static_cast<double>(high - low)));
      const auto memo = planner::make_plan(profile, {"memo", limit, 0, 1});
      if (!memo) continue;
      pack::Options options;
      options.time_limit = 5;
      const pack::Instance instance = flat_instance(profile, memo->program);
      const pack::Packing flat = pack::pack(instance, options);
      const auto over = [&](std::int64_t peak) {
        return 100 * (static_cast<double>(peak) / static_cast<double>(flat.lower_bound) - 1);
      };
      fmt::print("| 512 x 4, {} | {} | {} | {} | {:.2f} | {:.2f} | {:.2f} |\n", context, format_bytes(limit),
                 instance.size(), format_bytes(Bytes(flat.lower_bound)), over(memo->predicted.device_peak.value()),
                 over(flat.peak), flat.seconds);
    }
}

int run() {
  fmt::print(
      "| shape | context | tier | limit | memo s | memo-alpha s | best of swapped, recomputed, kept s | gap % | "
      "peak over bound % |\n");
  fmt::print("|---|---|---|---|---|---|---|---|---|\n");
  Totals totals;
  for (const std::int64_t context : {8192, 32768})
    for (const double bandwidth : {1e8, 5e8, 2e9})
      for (const double share : {0.02, 0.2, 0.5}) {
        compare("512 x 4", {.context = context, .bandwidth = bandwidth}, share, totals);
        compare("1024 x 8, 4 groups",
                {.hidden = 1024, .layers = 8, .ffn = 4096, .groups = 4, .context = context, .bandwidth = bandwidth},
                share, totals);
      }
  fmt::print(
      "\n{} configurations: memo is ahead of memo-alpha in {} (where it does not fit included), of the best extreme "
      "in {}, and behind either in {}.\n",
      totals.configurations, totals.ahead_of_alpha, totals.ahead_of_extremes, totals.beaten);
  fmt::print(
      "Packing in levels costs at most {:.2f} % of the peak against any packing of the same lifetimes at once.\n",
      100 * totals.nesting);
  time_large();
  compare_nesting();
  return totals.beaten == 0 ? 0 : 1;
}

}  // namespace
}  // namespace memo

int main() { return memo::run(); }
