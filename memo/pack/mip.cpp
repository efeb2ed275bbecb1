// In units of the granule, with M the largest peak allowed:
//   minimise   P
//   such that  o_i + s_i <= P <= M                     for each buffer
//              o_i + s_i <= o_j + M (1 - z_ij)         for each pair alive together: i below j when z_ij = 1,
//              o_j + s_j <= o_i + M z_ij               else j below i
//              o_i = a_i k_i, k_i a whole number       where buffer i is aligned to more than a granule
// HiGHS is called through its C interface, because the library that comes in the wheel may be built with another C++
// ABI than ours; C has only one.
#include "memo/pack/mip.h"

#include <interfaces/highs_c_api.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "memo/base/check.h"
#include "memo/pack/first_fit.h"

namespace memo::pack {
namespace {

constexpr double largest_units = 1 << 20;  // a big M beyond this hides violations of a unit in the solver's tolerance

struct Model {
  std::vector<double> cost, column_lower, column_upper, row_lower, row_upper, value;
  std::vector<HighsInt> integer, start, index;

  HighsInt column(double objective, double lower, double upper, bool whole) {
    cost.push_back(objective);
    column_lower.push_back(lower);
    column_upper.push_back(upper);
    integer.push_back(whole ? kHighsVarTypeInteger : kHighsVarTypeContinuous);
    return static_cast<HighsInt>(cost.size()) - 1;
  }
  // sum of the terms <= most
  void row(std::initializer_list<std::pair<HighsInt, double>> terms, double least, double most) {
    start.push_back(static_cast<HighsInt>(index.size()));
    for (const auto& [column, factor] : terms) {
      index.push_back(column);
      value.push_back(factor);
    }
    row_lower.push_back(least);
    row_upper.push_back(most);
  }
};

bool together(const Buffer& a, const Buffer& b) {
  bool found = false;
  for_each_life(a, [&](std::int64_t lower, std::int64_t upper) {
    for_each_life(b, [&](std::int64_t from, std::int64_t to) { found = found || (lower < to && from < upper); });
  });
  return found;
}

}  // namespace

MipAnswer pack_mip(const Instance& instance, std::int64_t most, const std::vector<std::int64_t>& start, double seconds,
                   std::uint64_t seed) {
  const std::int64_t grain = granule(instance);
  const auto units = [&](std::int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(grain); };
  const double m = std::floor(units(most));
  Model model;
  std::vector<double> warm;
  const auto warm_value = [&](double value) {
    if (!start.empty()) warm.push_back(value);
  };
  const HighsInt peak = model.column(1, units(lower_bound(instance)), m, true);
  warm_value(m);
  std::vector<HighsInt> offset(instance.size());
  for (std::size_t i = 0; i < instance.size(); ++i) {
    const double lower = units(instance[i].fixed.value_or(0));
    const double upper = instance[i].fixed ? lower : m - units(instance[i].size);
    offset[i] = model.column(0, lower, upper, false);
    warm_value(start.empty() ? 0 : units(start[i]));
  }
  for (std::size_t i = 0; i < instance.size(); ++i) {
    const double size = units(instance[i].size), inf = std::numeric_limits<double>::infinity();
    model.row({{offset[i], 1}, {peak, -1}}, -inf, -size);
    if (grain % instance[i].alignment != 0) {
      const HighsInt multiple = model.column(0, 0, m / units(instance[i].alignment), true);
      warm_value(start.empty() ? 0 : static_cast<double>(start[i] / instance[i].alignment));
      model.row({{offset[i], 1}, {multiple, -units(instance[i].alignment)}}, 0, 0);
    }
    for (std::size_t j = i + 1; j < instance.size(); ++j) {
      if (!together(instance[i], instance[j])) continue;
      const HighsInt below = model.column(0, 0, 1, true);
      warm_value(start.empty() || start[i] < start[j] ? 1 : 0);
      model.row({{offset[i], 1}, {offset[j], -1}, {below, m}}, -inf, m - size);
      model.row({{offset[j], 1}, {offset[i], -1}, {below, -m}}, -inf, -units(instance[j].size));
    }
  }
  if (std::any_of(offset.begin(), offset.end(),
                  [&](HighsInt c) {
                    return model.column_lower[static_cast<std::size_t>(c)] >
                           model.column_upper[static_cast<std::size_t>(c)];
                  }) ||
      model.column_lower[0] > m)
    return {{}, most + 1};

  const std::unique_ptr<void, decltype(&Highs_destroy)> highs(Highs_create(), &Highs_destroy);
  Highs_setBoolOptionValue(highs.get(), "output_flag", 0);
  Highs_setIntOptionValue(highs.get(), "threads", 1);
  Highs_setIntOptionValue(highs.get(), "random_seed", static_cast<HighsInt>(seed % 1'000'000));
  Highs_setDoubleOptionValue(highs.get(), "mip_rel_gap", 0);
  Highs_setDoubleOptionValue(highs.get(), "time_limit", seconds);
  const HighsInt passed = Highs_passMip(
      highs.get(), static_cast<HighsInt>(model.cost.size()), static_cast<HighsInt>(model.row_lower.size()),
      static_cast<HighsInt>(model.index.size()), kHighsMatrixFormatRowwise, kHighsObjSenseMinimize, 0,
      model.cost.data(), model.column_lower.data(), model.column_upper.data(), model.row_lower.data(),
      model.row_upper.data(), model.start.data(), model.index.data(), model.value.data(), model.integer.data());
  MEMO_CHECK(passed != kHighsStatusError, "the packing model is well formed");
  if (!warm.empty()) Highs_setSolution(highs.get(), warm.data(), nullptr, nullptr, nullptr);
  Highs_run(highs.get());

  MipAnswer answer;
  if (m <= largest_units) {
    double bound = 0;
    Highs_getDoubleInfoValue(highs.get(), "mip_dual_bound", &bound);
    if (Highs_getModelStatus(highs.get()) == kHighsModelStatusInfeasible)
      answer.lower_bound = most + 1;
    else if (std::isfinite(bound) && bound <= m)
      answer.lower_bound = static_cast<std::int64_t>(std::ceil(bound - 1e-3)) * grain;
  }
  HighsInt found = 0;
  Highs_getIntInfoValue(highs.get(), "primal_solution_status", &found);
  if (found != kHighsSolutionStatusFeasible) return answer;
  std::vector<double> value(model.cost.size()), reduced(value.size()), row(model.row_lower.size()), dual(row.size());
  Highs_getSolution(highs.get(), value.data(), reduced.data(), row.data(), dual.data());
  // First fit in the order of the solution's offsets moves nothing up, and is exact to the byte.
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < instance.size(); ++i)
    if (!instance[i].fixed) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return value[static_cast<std::size_t>(offset[a])] < value[static_cast<std::size_t>(offset[b])];
  });
  const FirstFit::Result placed = FirstFit(instance).place(
      order, most, [] { return false; }, answer.offsets);
  if (placed.end != FirstFit::End::placed) answer.offsets.clear();
  return answer;
}

}  // namespace memo::pack
