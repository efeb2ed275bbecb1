// The recursion over choices, and the memory of failed states.
#include "memo/pack/depth_first.h"

#include <algorithm>

namespace memo::pack {
namespace {

using Index = Skyline::Index;

constexpr std::size_t memory_size = std::size_t{1} << 18;  // number of failed states remembered

}  // namespace

DepthFirst::DepthFirst(Skyline& skyline) : skyline_(skyline), failed_(memory_size, 0) {}

Verdict DepthFirst::solve_parts(Range part, std::size_t depth) {
  const std::size_t mark = skyline_.trail();
  Verdict verdict = Verdict::packed;
  for (const Range& piece : skyline_.parts(part)) {
    const std::uint64_t whole = skyline_.enter(piece);
    verdict = solve(piece, depth);
    if (verdict == Verdict::refuted) skyline_.undo(mark);
    skyline_.leave(whole);
    if (verdict != Verdict::packed) break;
  }
  return verdict;
}

Verdict DepthFirst::solve(Range part, std::size_t depth) {
  const std::size_t base = skyline_.trail();
  if (choices_.size() <= depth) choices_.resize(depth + 1);
  const auto remember = [&] {
    skyline_.undo(base);
    failed_[skyline_.key(part) % memory_size] = skyline_.key(part);
    return Verdict::refuted;
  };
  for (;;) {
    if (--nodes_left_ < 0 || (nodes_left_ % 256 == 0 && (*interrupted_)())) return Verdict::cut_off;
    const Index section = skyline_.lowest_section(part);
    if (section == Skyline::nobody) return Verdict::packed;
    if (failed_[skyline_.key(part) % memory_size] == skyline_.key(part)) return remember();
    std::vector<Index> choices = std::move(choices_[depth]);
    skyline_.candidates(section, choices);
    std::sort(choices.begin(), choices.end(), [&](Index a, Index b) {
      return (*priority_)[a] != (*priority_)[b] ? (*priority_)[a] > (*priority_)[b] : a < b;
    });
    Verdict verdict = Verdict::refuted;
    for (const Index i : choices) {
      const std::size_t mark = skyline_.trail();
      if (skyline_.place(i)) verdict = skyline_.splits(i) ? solve_parts(part, depth + 1) : solve(part, depth + 1);
      if (verdict != Verdict::refuted) break;
      skyline_.undo(mark);
    }
    choices_[depth] = std::move(choices);
    if (verdict != Verdict::refuted) return verdict;
    if (!skyline_.none_on_floor(section)) return remember();
  }
}

Verdict DepthFirst::search(std::int64_t capacity, const std::vector<float>& priority, std::int64_t& nodes,
                           const std::function<bool()>& interrupted) {
  priority_ = &priority;
  interrupted_ = &interrupted;
  nodes_left_ = nodes;
  if (!skyline_.start(capacity)) return Verdict::refuted;
  const Verdict verdict = solve_parts(skyline_.all(), 0);
  nodes = nodes_left_;
  return verdict;
}

}  // namespace memo::pack
