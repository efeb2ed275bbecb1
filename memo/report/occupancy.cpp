// Sums residencies, transients and extents over boundaries.
#include "memo/report/occupancy.h"

#include <algorithm>
#include <numeric>

#include "memo/base/index.h"

namespace memo::report {

std::vector<Extent> extents(const plan::Plan& plan) {
  const plan::Program& program = plan.program;
  const auto persistent = [&](plan::TensorIndex tensor) {
    return plan.profile.flow.classes[program.tensors[tensor].cls].persistent();
  };
  IndexedVector<plan::TensorIndex, int> extent_of(program.tensors.size(), -1);
  std::vector<Extent> result;
  std::vector<bool> fetched;
  for (const plan::Copy& copy : program.copies) {
    const plan::TensorIndex tensor = program.residencies[copy.residency].tensor;
    if (copy.direction == plan::Direction::in || extent_of[tensor] >= 0) continue;
    extent_of[tensor] = static_cast<int>(result.size());
    result.push_back({tensor, copy.tier, persistent(tensor) ? plan::Boundary(0) : copy.at, program.calls.end_index(),
                      round_up(program.tensors[tensor].bytes, plan::copy_alignment)});
  }
  fetched.assign(result.size(), false);
  for (const plan::Copy& copy : program.copies) {
    const plan::TensorIndex tensor = program.residencies[copy.residency].tensor;
    if (copy.direction == plan::Direction::out || persistent(tensor)) continue;
    const std::size_t e = at(extent_of[tensor]);
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

  IndexedVector<plan::Boundary, Bytes> change(calls + 1);
  for (const plan::Residency& r : program.residencies) {
    change[r.begin] += program.tensors[r.tensor].bytes;
    change[r.end] -= program.tensors[r.tensor].bytes;
  }
  Bytes live = result.fixed;
  for (const plan::CallIndex k : program.calls.indices()) {
    live += change[k];
    result.device.push_back(live + program.transients[program.calls[k].trace].bytes);
  }
  result.peak = plan::CallIndex(static_cast<int>(std::ranges::max_element(result.device) - result.device.begin()));

  result.peak_by_class.resize(plan.profile.flow.classes.size());
  for (const plan::Residency& r : program.residencies)
    if (r.begin <= result.peak && result.peak < r.end) {
      const plan::Tensor& tensor = program.tensors[r.tensor];
      result.peak_by_class[tensor.cls] += tensor.bytes;
    }
  if (calls > 0) result.peak_transients = program.transients[program.calls[result.peak].trace].bytes;

  result.tiers.assign(plan.profile.tiers.size(), IndexedVector<plan::Boundary, Bytes>(calls + 1));
  for (const Extent& extent : extents(plan)) {
    result.tiers[at(extent.tier)][extent.begin] += extent.bytes;
    result.tiers[at(extent.tier)][extent.end] -= extent.bytes;
  }
  for (auto& tier : result.tiers) std::partial_sum(tier.begin(), tier.end(), tier.begin());
  return result;
}

}  // namespace memo::report
