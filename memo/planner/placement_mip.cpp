// The placement problem as a mixed-integer program on HiGHS (its C interface: the library may be built with another C++
// ABI than ours).
//
// For each unit u (memo/planner/placement.h) of layer l: counts r_u + s_u + k_u = B of recomputed, swapped and kept
// blocks. For core attention's outputs r_u is one of the prefixes, as a sum of steps between them, cheap ones first
// since their cost per block grows; and either all blocks are kept or none. For each layer: stalls f_l, b_l >= 0 of its
// forward and backward pass.
//   minimise   sum_u r_u (rerun_u + rerun input / read) + s_u swap_u (1/write + 1/read) (slowdown - 1) + sum_l f_l +
//             b_l
//   such that  sum_u k_u keep_u <= budget
//              sum_u s_u swap_u <= budget of the tier
//              for each l: write time of its swapped blocks - f_l <= its forward time
//              for each l: read time of its swapped blocks and rerun inputs - b_l <= its backward time
// At equal cost late layers are kept first: their tensors are needed soonest, so keeping them in fact costs least.
#include <interfaces/highs_c_api.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "memo/base/check.h"
#include "memo/base/index.h"
#include "memo/planner/placement.h"

namespace memo::planner {
namespace {

constexpr double gap_wanted = 2e-3;
constexpr double seconds_allowed = 0.5;

// A mixed-integer program, built column by column and then row by row.
struct IntegerProgram {
  std::vector<double> cost, column_lower, column_upper, row_lower, row_upper, value;
  std::vector<HighsInt> integer, start, index;

  void column(double column_cost, double upper, bool is_integer) {
    cost.push_back(column_cost);
    column_lower.push_back(0);
    column_upper.push_back(upper);
    integer.push_back(is_integer ? kHighsVarTypeInteger : kHighsVarTypeContinuous);
  }
  void term(int column, double factor) {
    if (row_lower.size() == start.size()) start.push_back(static_cast<HighsInt>(index.size()));
    if (factor == 0) return;
    index.push_back(column);
    value.push_back(factor);
  }
  void end_row(double lower, double upper) {
    if (row_lower.size() == start.size()) start.push_back(static_cast<HighsInt>(index.size()));
    row_lower.push_back(lower);
    row_upper.push_back(upper);
  }
};

struct Step {  // from one prefix to the next: a column that is 0 or 1
  int column = 0, blocks = 0;
};

struct Solution {
  std::vector<double> value;  // empty: none found
  double gap = 0;
};

Solution solve(const IntegerProgram& program, const std::vector<double>& warm_start) {
  const std::unique_ptr<void, decltype(&Highs_destroy)> highs(Highs_create(), &Highs_destroy);
  const auto columns = static_cast<HighsInt>(program.cost.size());
  const auto rows = static_cast<HighsInt>(program.row_lower.size());
  Highs_setBoolOptionValue(highs.get(), "output_flag", 0);
  Highs_setIntOptionValue(highs.get(), "threads", 1);
  Highs_setDoubleOptionValue(highs.get(), "mip_rel_gap", gap_wanted);
  Highs_setDoubleOptionValue(highs.get(), "time_limit", seconds_allowed);
  const HighsInt passed =
      Highs_passMip(highs.get(), columns, rows, static_cast<HighsInt>(program.index.size()), kHighsMatrixFormatRowwise,
                    kHighsObjSenseMinimize, 0, program.cost.data(), program.column_lower.data(),
                    program.column_upper.data(), program.row_lower.data(), program.row_upper.data(),
                    program.start.data(), program.index.data(), program.value.data(), program.integer.data());
  MEMO_CHECK(passed != kHighsStatusError, "the placement model is well formed");
  if (!warm_start.empty()) Highs_setSolution(highs.get(), warm_start.data(), nullptr, nullptr, nullptr);
  Highs_run(highs.get());
  HighsInt found = 0;
  Highs_getIntInfoValue(highs.get(), "primal_solution_status", &found);
  Solution solution;
  if (found != kHighsSolutionStatusFeasible) return solution;
  Highs_getDoubleInfoValue(highs.get(), "mip_gap", &solution.gap);
  std::vector<double> reduced(program.cost.size()), row(program.row_lower.size()), dual(program.row_lower.size());
  solution.value.resize(program.cost.size());
  Highs_getSolution(highs.get(), solution.value.data(), reduced.data(), row.data(), dual.data());
  return solution;
}

}  // namespace

Placement place_optimal(const Profile& profile, int tier, Bytes keep_budget, Bytes tier_budget) {
  const std::vector<Unit> all = units(profile, tier);
  if (all.empty()) return {};
  const int blocks = profile.flow.blocks();
  const int layers = profile.flow.placed_layers();
  const int unit_count = static_cast<int>(all.size());
  const double inf = std::numeric_limits<double>::infinity();
  const double write = tier >= 0 ? profile.tiers[at(tier)].write_with_read.value() : 1;
  const double read = tier >= 0 ? profile.tiers[at(tier)].read_with_write.value() : 1;
  const double slowdown = tier >= 0 ? profile.tiers[at(tier)].compute_slowdown : 1;
  const auto forward_seconds = [&](LayerIndex layer) { return layer_seconds(profile, layer, false).value(); };
  const auto backward_seconds = [&](LayerIndex layer) { return layer_seconds(profile, layer, true).value(); };
  const double late_first = 1e-6 * forward_seconds(LayerIndex(0));

  const auto keep_scale = [&](const Unit& unit) { return unit.whole_keep ? static_cast<double>(blocks) : 1.0; };
  const auto bytes = [](Bytes value) { return static_cast<double>(value.value()); };
  const auto recompute = [](int u) { return 3 * u; };
  const auto swap = [](int u) { return 3 * u + 1; };
  const auto keep = [](int u) { return 3 * u + 2; };
  const auto forward_stall = [&](LayerIndex l) { return 3 * unit_count + 2 * l.value(); };
  const auto backward_stall = [&](LayerIndex l) { return 3 * unit_count + 2 * l.value() + 1; };

  IntegerProgram program;
  for (const Unit& unit : all) {
    const double copy = bytes(unit.swap_bytes) * (1 / write + 1 / read) * (slowdown - 1);
    const double again = unit.rerun.value() + bytes(unit.rerun_input) / read * (slowdown - 1);
    const bool may_swap = tier >= 0 && unit.swap_bytes > Bytes(0);
    program.column(again, unit.segment.exists() && !unit.whole() ? blocks : 0, true);
    program.column(copy, may_swap ? blocks : 0, true);
    program.column(late_first * (layers - unit.layer.value()), blocks / keep_scale(unit), true);
  }
  for (int l = 0; l < 2 * layers; ++l) program.column(1, inf, false);
  std::vector<std::vector<Step>> steps(all.size());  // of core attention's outputs
  for (std::size_t u = 0; u < all.size(); ++u) {
    int before = 0;
    double seconds = 0;
    for (const auto& [until, total] : all[u].prefixes) {
      steps[u].push_back({static_cast<int>(program.cost.size()), until - before});
      program.column(total.value() - seconds, 1, true);
      before = until, seconds = total.value();
    }
  }

  for (int u = 0; u < unit_count; ++u) {
    program.term(recompute(u), 1);
    program.term(swap(u), 1);
    program.term(keep(u), keep_scale(all[at(u)]));
    for (const Step& step : steps[at(u)]) program.term(step.column, step.blocks);
    program.end_row(blocks, blocks);
  }
  for (int u = 0; u < unit_count; ++u)
    program.term(keep(u), bytes(all[at(u)].keep_bytes) * keep_scale(all[at(u)]) / 1e6);
  program.end_row(-inf, bytes(keep_budget) / 1e6);
  if (tier >= 0) {
    for (int u = 0; u < unit_count; ++u) program.term(swap(u), bytes(all[at(u)].swap_bytes) / 1e6);
    program.end_row(-inf, bytes(tier_budget) / 1e6);
  }
  for (const LayerIndex l : indices<LayerIndex>(layers)) {
    for (int u = 0; u < unit_count; ++u)
      if (all[at(u)].layer == l) program.term(swap(u), bytes(all[at(u)].swap_bytes) / write);
    program.term(forward_stall(l), -1);
    program.end_row(-inf, forward_seconds(l));
    for (int u = 0; u < unit_count; ++u)
      if (all[at(u)].layer == l) {
        program.term(swap(u), bytes(all[at(u)].swap_bytes) / read);
        program.term(recompute(u), bytes(all[at(u)].rerun_input) / read);
      }
    program.term(backward_stall(l), -1);
    program.end_row(-inf, backward_seconds(l));
  }
  std::vector<double> start;
  if (tier >= 0) {  // MEMO's rule is one feasible point when its kept layers fit: start there
    start.assign(program.cost.size(), 0);
    const Placement rule = place_alpha(profile, tier);
    std::size_t entry = 0;
    for (int u = 0; u < unit_count; ++u) {  // the rule computes none of core attention's outputs again
      const ClassPlacement& given = rule.classes[entry];
      start[at(recompute(u))] = given.recomputed;
      start[at(swap(u))] = given.swapped;
      start[at(keep(u))] = given.kept / keep_scale(all[at(u)]);
      entry += all[at(u)].classes.size();
    }
    for (const LayerIndex l : indices<LayerIndex>(layers)) {
      double out = 0, in = 0;
      for (int u = 0; u < unit_count; ++u)
        if (all[at(u)].layer == l) {
          out += start[at(swap(u))] * bytes(all[at(u)].swap_bytes) / write;
          in += (start[at(swap(u))] * bytes(all[at(u)].swap_bytes) +
                 start[at(recompute(u))] * bytes(all[at(u)].rerun_input)) /
                read;
        }
      start[at(forward_stall(l))] = std::max(0.0, out - forward_seconds(l));
      start[at(backward_stall(l))] = std::max(0.0, in - backward_seconds(l));
    }
  }
  const Solution solution = solve(program, start);
  const std::vector<double>& value = solution.value;
  if (value.empty()) return place_recompute(profile, tier);  // the tier is too small: the caller sees what it needs
  Placement placement;
  placement.gap = solution.gap;
  for (int u = 0; u < unit_count; ++u) {
    const auto count = [&](int column) { return static_cast<int>(std::lround(value[at(column)])); };
    int recomputed = count(recompute(u)), swapped = count(swap(u));
    for (const Step& step : steps[at(u)]) recomputed += count(step.column) * step.blocks;
    // If steps of unequal sizes leave one out, takes the next prefix.
    for (const auto& [until, seconds] : all[at(u)].prefixes)
      if (until >= recomputed && recomputed > 0) {
        swapped -= until - recomputed;
        recomputed = until;
        break;
      }
    add_unit(placement, profile, all[at(u)], recomputed, swapped, std::max(tier, 0));
  }
  return placement;
}

}  // namespace memo::planner
