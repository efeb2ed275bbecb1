// Sums residencies, transients and extents over boundaries.
#include "memo/report/occupancy.h"

#include <algorithm>
#include <numeric>

#include "memo/base/index.h"

namespace memo::report {
namespace {}  // namespace

std::vector<Extent> extents(const plan::Plan& plan) {
  const plan::Program& program = plan.program;
  const auto lasting = [&](int tensor) {
    return plan.profile.flow.classes[at(program.tensors[at(tensor)].cls)].lasting();
  };
  const int calls = static_cast<int>(program.calls.size());
  std::vector<int> extent_of(program.tensors.size(), -1);
  std::vector<Extent> result;
  std::vector<bool> fetched;
  for (const plan::Copy& copy : program.copies) {
    const int tensor = program.residencies[at(copy.residency)].tensor;
    if (copy.direction == plan::Direction::in || extent_of[at(tensor)] >= 0) continue;
    extent_of[at(tensor)] = static_cast<int>(result.size());
    result.push_back({tensor, copy.tier, lasting(tensor) ? 0 : copy.at, calls,
                      round_up(program.tensors[at(tensor)].bytes, plan::copy_alignment)});
  }
  fetched.assign(result.size(), false);
  for (const plan::Copy& copy : program.copies) {
    if (copy.direction == plan::Direction::out || lasting(program.residencies[at(copy.residency)].tensor)) continue;
    const std::size_t e = at(extent_of[at(program.residencies[at(copy.residency)].tensor)]);
    result[e].end = fetched[e] ? std::max(result[e].end, copy.before) : copy.before;
    fetched[e] = true;
  }
  return result;
}

Occupancy occupancy(const plan::Plan& plan) {
  const plan::Program& program = plan.program;
  const std::size_t calls = program.calls.size();
  Occupancy result;
  result.fixed = std::accumulate(plan.profile.fixed.begin(), plan.profile.fixed.end(), Bytes(0),
                                 [](Bytes sum, const plan::Fixed& fixed) { return sum + fixed.bytes; });

  std::vector<Bytes> change(calls + 1);
  for (const plan::Residency& r : program.residencies) {
    change[at(r.begin)] += program.tensors[at(r.tensor)].bytes;
    change[at(r.end)] -= program.tensors[at(r.tensor)].bytes;
  }
  Bytes live = result.fixed;
  for (std::size_t k = 0; k < calls; ++k) {
    live += change[k];
    result.device.push_back(live + program.transients[at(program.calls[k].trace)].bytes);
  }
  result.peak = static_cast<int>(std::ranges::max_element(result.device) - result.device.begin());

  result.peak_by_class.resize(plan.profile.flow.classes.size());
  for (const plan::Residency& r : program.residencies)
    if (r.begin <= result.peak && result.peak < r.end) {
      const plan::Tensor& tensor = program.tensors[at(r.tensor)];
      result.peak_by_class[at(tensor.cls)] += tensor.bytes;
    }
  if (calls > 0) result.peak_transients = program.transients[at(program.calls[at(result.peak)].trace)].bytes;

  result.tiers.assign(plan.profile.tiers.size(), std::vector<Bytes>(calls + 1));
  for (const Extent& extent : extents(plan)) {
    result.tiers[at(extent.tier)][at(extent.begin)] += extent.bytes;
    result.tiers[at(extent.tier)][at(extent.end)] -= extent.bytes;
  }
  for (std::vector<Bytes>& tier : result.tiers) std::partial_sum(tier.begin(), tier.end(), tier.begin());
  return result;
}

}  // namespace memo::report
