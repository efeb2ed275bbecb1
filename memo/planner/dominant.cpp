// Sums live bytes by kind over boundaries.
#include "memo/planner/dominant.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <vector>

#include "memo/base/text.h"

namespace memo::planner {

Kinds kinds_at_peak(const plan::Profile& profile, const plan::Program& program) {
  IndexedVector<plan::Boundary, std::int64_t> change(program.calls.size() + 1, 0);
  for (const plan::Residency& r : program.residencies) {
    const std::int64_t bytes = program.tensors[r.tensor].bytes.value();
    change[r.begin] += bytes;
    change[r.end] -= bytes;
  }
  std::int64_t live = 0, most = -1;
  plan::CallIndex fullest;
  const auto transients = [&](plan::CallIndex k) { return program.transients[program.calls[k].trace].bytes.value(); };
  for (const plan::CallIndex k : program.calls.indices()) {
    live += change[k];
    if (const std::int64_t now = live + transients(k); now > most) most = now, fullest = k;
  }
  std::map<std::string, std::int64_t> kinds;
  for (const plan::Fixed& fixed : profile.fixed) kinds[fixed.name] += fixed.bytes.value();
  for (const plan::Residency& r : program.residencies)
    if (r.begin <= fullest && fullest < r.end) {
      const plan::Tensor& tensor = program.tensors[r.tensor];
      kinds[profile.flow.classes[tensor.cls].name] += tensor.bytes.value();
    }
  kinds["transients"] += transients(fullest);
  Kinds sorted;
  for (const auto& [name, bytes] : kinds) sorted.emplace_back(name, Bytes(bytes));
  std::ranges::stable_sort(sorted, std::greater<>(), &std::pair<std::string, Bytes>::second);
  return sorted;
}

std::string dominant(const Kinds& kinds) {
  constexpr std::size_t named = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(named, kinds.size()); ++i)
    text += fmt::format("{}{} {}", i > 0 ? ", " : "", kinds[i].first, format_bytes(kinds[i].second));
  return text;
}

}  // namespace memo::planner
