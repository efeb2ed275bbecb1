// Compares the ends of due copies with the starts of calls.
#include "memo/report/stalls.h"

#include <algorithm>
#include <map>
#include <utility>

#include "memo/base/index.h"

namespace memo::report {
namespace {
constexpr double shortest = 1e-6;  // seconds; measured timelines have a clock of microseconds
}  // namespace

std::vector<Stall> stalls(const plan::Program& program, const sim::Timeline& timeline) {
  std::vector<double> ended(program.copies.size(), 0);
  for (const auto* lane : {&timeline.copies_out, &timeline.copies_in})
    for (const sim::Interval& span : *lane) ended[at(span.index)] = span.end;
  IndexedVector<plan::Boundary, int> last(program.calls.size() + 1,
                                          -1);  // by boundary: the copy due there that ended last
  for (std::size_t c = 0; c < program.copies.size(); ++c) {
    int& found = last[program.copies[c].before];
    if (found < 0 || ended[c] > ended[at(found)]) found = static_cast<int>(c);
  }
  std::vector<Stall> result;
  double before = 0;
  for (std::size_t k = 0; k <= timeline.calls.size(); ++k) {
    const double start = k < timeline.calls.size() ? timeline.calls[k].start : timeline.step.value();
    if (const int copy = last[plan::Boundary(k)]; copy >= 0 && start - before >= shortest)
      result.push_back({plan::Boundary(k), copy, before, Seconds(start - before)});
    if (k < timeline.calls.size()) before = timeline.calls[k].end;
  }
  return result;
}

std::vector<StallsOfClass> stalls_by_class(const plan::Program& program, const std::vector<Stall>& stalls) {
  std::map<std::pair<plan::ClassIndex, plan::Direction>, StallsOfClass> sums;
  for (const Stall& stall : stalls) {
    const plan::Copy& copy = program.copies[at(stall.copy)];
    const plan::ClassIndex cls = program.tensors[program.residencies[copy.residency].tensor].cls;
    StallsOfClass& sum = sums[{cls, copy.direction}];
    sum.cls = cls;
    sum.direction = copy.direction;
    ++sum.count;
    sum.seconds += stall.seconds;
    sum.longest = std::max(sum.longest, stall.seconds);
  }
  std::vector<StallsOfClass> result;
  for (const auto& [key, sum] : sums) result.push_back(sum);
  std::ranges::sort(result, std::greater<>(), &StallsOfClass::seconds);
  return result;
}

}  // namespace memo::report
