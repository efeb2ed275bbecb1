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
  const std::size_t calls = program.calls.size();
  std::vector<std::int64_t> change(calls + 1, 0);
  for (const plan::Residency& r : program.residencies) {
    const std::int64_t bytes = program.tensors[static_cast<std::size_t>(r.tensor)].bytes.value();
    change[static_cast<std::size_t>(r.begin)] += bytes;
    change[static_cast<std::size_t>(r.end)] -= bytes;
  }
  std::int64_t live = 0, most = -1;
  int fullest = 0;
  for (std::size_t k = 0; k < calls; ++k) {
    live += change[k];
    const auto trace = static_cast<std::size_t>(program.calls[k].trace);
    const std::int64_t now = live + program.transients[trace].bytes.value();
    if (now > most) most = now, fullest = static_cast<int>(k);
  }
  std::map<std::string, std::int64_t> kinds;
  for (const plan::Fixed& fixed : profile.fixed) kinds[fixed.name] += fixed.bytes.value();
  for (const plan::Residency& r : program.residencies)
    if (r.begin <= fullest && fullest < r.end) {
      const plan::Tensor& tensor = program.tensors[static_cast<std::size_t>(r.tensor)];
      kinds[profile.flow.classes[static_cast<std::size_t>(tensor.cls)].name] += tensor.bytes.value();
    }
  const auto trace = static_cast<std::size_t>(program.calls[static_cast<std::size_t>(fullest)].trace);
  kinds["transients"] += program.transients[trace].bytes.value();
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
