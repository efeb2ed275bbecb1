// The placement problem as a mixed-integer program on HiGHS.
//
// For each unit u (memo/plan/placement.h) of layer l: counts r_u + s_u + k_u = B of blocks computed again, swapped and
// kept. For each layer: stalls f_l, b_l >= 0 of its forward and backward pass.
//   minimise   sum_u r_u (rerun_u + rerun input / read) + s_u swap_u (1/write + 1/read) (slowdown - 1) + sum_l f_l + b_l
//   such that  sum_u k_u keep_u <= budget
//              sum_u s_u swap_u <= capacity of the tier
//              for each l: write time of its swapped blocks - f_l <= its forward time
//              for each l: read time of its swapped blocks and rerun inputs - b_l <= its backward time
// Late layers are kept first at equal cost: their tensors are needed soonest, so keeping them costs least in fact.
#include <Highs.h>

#include <algorithm>
#include <cmath>

#include "memo/base/check.h"
#include "memo/plan/placement.h"

namespace memo::plan {
namespace {

constexpr double gap_wanted = 1e-3;
constexpr double seconds_allowed = 2;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

struct Window {  // compute time of one layer's passes
  double forward = 0, backward = 0;
};

Window window(const Profile& profile) {
  const model::Dataflow& flow = profile.flow;
  Window result;
  for (std::size_t s = 0; s < flow.segments.size(); ++s) {
    if (!flow.layered(static_cast<int>(s))) continue;
    const bool core = flow.segments[s].stage == model::Stage::core;
    const Tokens tokens = core ? flow.context : flow.block_tokens(0);
    const double times = core ? flow.groups : flow.blocks();
    const auto seconds = [&](bool backward) {
      return profile.traces[at(profile.trace_of(static_cast<int>(s), backward, tokens))].seconds.value() * times;
    };
    result.forward += seconds(false);
    result.backward += seconds(true);
  }
  return result;
}

class Rows {
 public:
  explicit Rows(HighsModel& model) : lp_(model.lp_) {
    lp_.a_matrix_.format_ = MatrixFormat::kRowwise;
    lp_.a_matrix_.start_ = {0};
  }
  void term(int column, double factor) {
    if (factor == 0) return;
    lp_.a_matrix_.index_.push_back(column);
    lp_.a_matrix_.value_.push_back(factor);
  }
  void end(double lower, double upper) {
    lp_.a_matrix_.start_.push_back(static_cast<HighsInt>(lp_.a_matrix_.index_.size()));
    lp_.row_lower_.push_back(lower);
    lp_.row_upper_.push_back(upper);
    ++lp_.num_row_;
  }

 private:
  HighsLp& lp_;
};

}  // namespace

Placement place_optimal(const Profile& profile, int tier, Bytes keep_budget) {
  const std::vector<Unit> all = units(profile, tier);
  if (all.empty()) return {};
  const int blocks = profile.flow.blocks();
  const int layers = profile.flow.layers - 1;
  const int unit_count = static_cast<int>(all.size());
  const Window time = window(profile);
  const double inf = kHighsInf;
  const double write = tier >= 0 ? profile.tiers[at(tier)].write_with_read.value() : 1;
  const double read = tier >= 0 ? profile.tiers[at(tier)].read_with_write.value() : 1;
  const double slowdown = tier >= 0 ? profile.tiers[at(tier)].compute_slowdown : 1;
  const double late_first = 1e-6 * time.forward;

  // A "whole" unit's variables count the layer, not its blocks; likewise whether a sequence is kept.
  const auto scale = [&](const Unit& unit) { return unit.whole ? static_cast<double>(blocks) : 1.0; };
  const auto keep_scale = [&](const Unit& unit) {
    return unit.whole || unit.whole_keep ? static_cast<double>(blocks) : 1.0;
  };
  const auto bytes = [](Bytes value) { return static_cast<double>(value.value()); };
  const auto recompute = [](int u) { return 3 * u; };
  const auto swap = [](int u) { return 3 * u + 1; };
  const auto keep = [](int u) { return 3 * u + 2; };
  const auto forward_stall = [&](int l) { return 3 * unit_count + 2 * l; };
  const auto backward_stall = [&](int l) { return 3 * unit_count + 2 * l + 1; };

  HighsModel model;
  HighsLp& lp = model.lp_;
  const auto column = [&](double cost, double upper, bool integer) {
    lp.col_cost_.push_back(cost);
    lp.col_lower_.push_back(0);
    lp.col_upper_.push_back(upper);
    lp.integrality_.push_back(integer ? HighsVarType::kInteger : HighsVarType::kContinuous);
    ++lp.num_col_;
  };
  for (const Unit& unit : all) {
    const double copy = bytes(unit.swap_bytes) * (1 / write + 1 / read) * (slowdown - 1);
    const double again = unit.rerun.value() + bytes(unit.rerun_input) / read * (slowdown - 1);
    const bool may_swap = tier >= 0 && unit.swap_bytes > Bytes(0);
    column(again * scale(unit), unit.segment >= 0 ? blocks / scale(unit) : 0, true);
    column(copy * scale(unit), may_swap ? blocks / scale(unit) : 0, true);
    column(late_first * (layers - unit.layer), blocks / keep_scale(unit), true);
  }
  for (int l = 0; l < layers; ++l) column(1, inf, false), column(1, inf, false);

  Rows rows(model);
  for (int u = 0; u < unit_count; ++u) {
    rows.term(recompute(u), scale(all[at(u)]));
    rows.term(swap(u), scale(all[at(u)]));
    rows.term(keep(u), keep_scale(all[at(u)]));
    rows.end(blocks, blocks);
  }
  for (int u = 0; u < unit_count; ++u) rows.term(keep(u), bytes(all[at(u)].keep_bytes) * keep_scale(all[at(u)]) / 1e6);
  rows.end(-inf, bytes(keep_budget) / 1e6);
  if (tier >= 0) {
    for (int u = 0; u < unit_count; ++u) rows.term(swap(u), bytes(all[at(u)].swap_bytes) * scale(all[at(u)]) / 1e6);
    rows.end(-inf, bytes(profile.tiers[at(tier)].capacity) / 1e6);
  }
  for (int l = 0; l < layers; ++l) {
    for (int u = 0; u < unit_count; ++u)
      if (all[at(u)].layer == l) rows.term(swap(u), bytes(all[at(u)].swap_bytes) * scale(all[at(u)]) / write);
    rows.term(forward_stall(l), -1);
    rows.end(-inf, time.forward);
    for (int u = 0; u < unit_count; ++u)
      if (all[at(u)].layer == l) {
        rows.term(swap(u), bytes(all[at(u)].swap_bytes) * scale(all[at(u)]) / read);
        rows.term(recompute(u), bytes(all[at(u)].rerun_input) * scale(all[at(u)]) / read);
      }
    rows.term(backward_stall(l), -1);
    rows.end(-inf, time.backward);
  }
  lp.a_matrix_.num_row_ = lp.num_row_;
  lp.a_matrix_.num_col_ = lp.num_col_;

  Highs highs;
  highs.setOptionValue("output_flag", false);
  highs.setOptionValue("threads", 1);
  highs.setOptionValue("mip_rel_gap", gap_wanted);
  highs.setOptionValue("time_limit", seconds_allowed);
  MEMO_CHECK(highs.passModel(model) != HighsStatus::kError, "the placement model is well formed");
  if (tier >= 0) {  // MEMO's rule is one feasible point when its kept layers fit: start there
    HighsSolution start;
    start.col_value.assign(at(lp.num_col_), 0);
    const Placement rule = place_alpha(profile, tier);
    std::size_t entry = 0;
    for (int u = 0; u < unit_count; ++u) {
      const ClassPlacement& given = rule.classes[entry];
      start.col_value[at(recompute(u))] = given.recomputed / scale(all[at(u)]);
      start.col_value[at(swap(u))] = given.swapped / scale(all[at(u)]);
      start.col_value[at(keep(u))] = given.kept / keep_scale(all[at(u)]);
      entry += all[at(u)].classes.size();
    }
    for (int l = 0; l < layers; ++l) {
      double out = 0, in = 0;
      for (int u = 0; u < unit_count; ++u)
        if (all[at(u)].layer == l) {
          out += start.col_value[at(swap(u))] * bytes(all[at(u)].swap_bytes) * scale(all[at(u)]) / write;
          in += (start.col_value[at(swap(u))] * bytes(all[at(u)].swap_bytes) +
                 start.col_value[at(recompute(u))] * bytes(all[at(u)].rerun_input)) *
                scale(all[at(u)]) / read;
        }
      start.col_value[at(forward_stall(l))] = std::max(0.0, out - time.forward);
      start.col_value[at(backward_stall(l))] = std::max(0.0, in - time.backward);
    }
    highs.setSolution(start);
  }
  highs.run();
  Placement placement;
  const std::vector<double>& value = highs.getSolution().col_value;
  if (value.empty() || highs.getInfo().primal_solution_status != kSolutionStatusFeasible)
    return place_recompute(profile, tier);  // nothing may be kept or swapped: the caller sees what it needs
  placement.gap = highs.getInfo().mip_gap;
  for (int u = 0; u < unit_count; ++u) {
    const Unit& unit = all[at(u)];
    const auto count = [&](int c, double factor) { return static_cast<int>(std::lround(value[at(c)] * factor)); };
    for (int cls : unit.classes)
      placement.classes.push_back({cls, unit.layer, count(recompute(u), scale(unit)), count(swap(u), scale(unit)),
                                   count(keep(u), keep_scale(unit)), std::max(tier, 0)});
  }
  return placement;
}

}  // namespace memo::plan
