// Levels of states by placed area, and their selection.
#include "memo/pack/beam.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

namespace memo::pack {
namespace {

using Index = Skyline::Index;

struct State {
  float waste;
  Index placed;
  double area;  // area placed so far
  Skyline::Snapshot snapshot;
};

bool better(const State& a, const State& b) {
  return std::tuple(a.waste, a.snapshot.hash) < std::tuple(b.waste, b.snapshot.hash);
}

// The best states with about the same area placed; worse states, and repeated ones, are dropped now and then.
class Level {
 public:
  [[nodiscard]] bool takes(float waste) const { return waste < limit_; }
  void add(State state, std::size_t width) {
    states_.push_back(std::move(state));
    const std::size_t kept = width + width / 2;
    if (states_.size() < 2 * kept) return;
    keep_best(kept);
    if (states_.size() == kept) limit_ = states_.back().waste;
  }
  // Best first.
  std::vector<State> take(std::size_t width) {
    keep_best(width);
    return std::move(states_);
  }

 private:
  void keep_best(std::size_t most) {
    std::sort(states_.begin(), states_.end(), better);
    const auto last = std::unique(states_.begin(), states_.end(),
                                  [](const State& a, const State& b) { return a.snapshot.hash == b.snapshot.hash; });
    states_.erase(last, states_.end());
    if (states_.size() > most) states_.resize(most);
  }

  std::vector<State> states_;
  float limit_ = std::numeric_limits<float>::max();
};

class Search {
 public:
  Search(Skyline& skyline, const Beam& beam) : skyline_(skyline), beam_(beam), levels_(2 * skyline.buffers() + 1) {
    for (Index s = 0; s < skyline.all().last; ++s) at_first_.push_back(skyline.waits(s) ? skyline.slack(s) : 0);
    for (Index i = 0; i < skyline.buffers(); ++i) whole_ += skyline.area(i);
  }

  Verdict run(std::int64_t& nodes, const std::function<bool()>& interrupted) {
    levels_[0].add({0, 0, 0, skyline_.snapshot()}, beam_.width);
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      for (const State& state : levels_[level].take(beam_.width)) {
        if (interrupted()) return Verdict::cut_off;
        if (expand(state, level, nodes)) return Verdict::packed;
      }
    }
    return Verdict::cut_off;
  }

 private:
  // Tries the children of a state; whether one of them has everything placed.
  bool expand(const State& state, std::size_t level, std::int64_t& nodes) {
    skyline_.restore(state.snapshot);
    for (int rise = 0;; ++rise) {
      const Index section = skyline_.lowest_section(skyline_.all());
      skyline_.candidates(section, choices_);
      nodes += static_cast<std::int64_t>(choices_.size());
      for (const Index i : choices_) {
        const std::size_t mark = skyline_.trail();
        if (skyline_.place(i)) {
          if (state.placed + 1 == skyline_.buffers()) return true;
          const double area = state.area + skyline_.area(i);
          const double share = area / whole_ * static_cast<double>(levels_.size() - 1);
          Level& next = levels_[std::min(std::max(level + 1, static_cast<std::size_t>(share)), levels_.size() - 1)];
          const float waste = weighted_waste();
          if (next.takes(waste)) next.add({waste, state.placed + 1, area, skyline_.snapshot()}, beam_.width);
        }
        skyline_.undo(mark);
      }
      if (rise == beam_.rises || !skyline_.none_on_floor(section)) return false;
    }
  }

  [[nodiscard]] float weighted_waste() const {
    double sum = 0;
    for (Index s = 0; s < at_first_.size(); ++s) {
      if (!skyline_.waits(s)) continue;
      const auto slack = static_cast<double>(skyline_.slack(s));
      sum += (static_cast<double>(at_first_[s]) - slack) / (slack + beam_.ease);
    }
    return static_cast<float>(sum);
  }

  Skyline& skyline_;
  const Beam& beam_;
  std::vector<Level> levels_;           // by placed area
  std::vector<std::int64_t> at_first_;  // slack of each section at the start
  std::vector<Index> choices_;
  double whole_ = 0;  // total area
};

}  // namespace

Verdict beam_search(Skyline& skyline, std::int64_t capacity, const Beam& beam, std::int64_t& nodes,
                    const std::function<bool()>& interrupted) {
  if (!skyline.start(capacity)) return Verdict::refuted;
  return Search(skyline, beam).run(nodes, interrupted);
}

}  // namespace memo::pack
