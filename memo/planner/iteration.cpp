// Aligns the turns of a pass, and packs transients and rings at their common positions.
#include "memo/planner/iteration.h"

#include <algorithm>
#include <map>
#include <optional>

#include "memo/base/index.h"
#include "memo/planner/packed.h"

namespace memo::planner {
namespace {

// Aligns the turns of one pass: every call gets a position in the longest turn. That one has all kinds of calls that
// the others have, because recomputed blocks come first in the sequence.
class Turns {
 public:
  Turns(const Schedule& schedule, const Pass& pass) : pass_(pass) {
    CallIndex longest = pass.begin;
    int length = 0;
    for (std::size_t i = 0; i < pass.iterations.size(); ++i)
      if (end_of(i) - pass.iterations[i] > length) longest = pass.iterations[i], length = end_of(i) - longest;
    std::map<std::pair<SegmentIndex, Phase>, int> position;
    for (CallIndex k = longest; k < longest + length; ++k)
      position[{schedule.calls[k].segment, schedule.calls[k].phase}] = k - longest;
    for (CallIndex k = pass.begin; k < pass.end; ++k) {
      const auto found = position.find({schedule.calls[k].segment, schedule.calls[k].phase});
      if (found == position.end()) {  // not nested after all: every call is a position of its own
        positions_.clear();
        break;
      }
      positions_.push_back(found->second);
    }
    if (positions_.empty())
      for (CallIndex k = pass.begin; k < pass.end; ++k) positions_.push_back(k - pass.begin);
  }

  [[nodiscard]] int position(CallIndex call) const { return positions_[at(call - pass_.begin)]; }
  [[nodiscard]] int count() const { return 1 + *std::max_element(positions_.begin(), positions_.end()); }
  // Whether calls first..last belong to one turn.
  [[nodiscard]] bool together(CallIndex first, CallIndex last) const {
    if (first < pass_.begin || last >= pass_.end) return false;
    const auto next = std::upper_bound(pass_.iterations.begin(), pass_.iterations.end(), first);
    return next == pass_.iterations.end() || last < *next;
  }

 private:
  [[nodiscard]] CallIndex end_of(std::size_t i) const {
    return i + 1 < pass_.iterations.size() ? pass_.iterations[i + 1] : pass_.end;
  }
  const Pass& pass_;
  std::vector<int> positions_;
};

// The positions that a ring spans, if all its stays lie within a turn and none is fetched or written out.
std::optional<std::pair<int, int>> span(const Ring& ring, const std::vector<Stay>& stays, const Turns& turns) {
  if (ring.sequence || ring.slots > 0) return {};
  int first = turns.count(), last = 0;
  for (int s : ring.stays) {
    const Stay& stay = stays[at(s)];
    if (stay.fetched || stay.written_out() || !turns.together(stay.begin, stay.end - 1)) return {};
    first = std::min(first, turns.position(stay.begin));
    last = std::max(last, turns.position(stay.end - 1));
  }
  return std::pair(first, last);
}

}  // namespace

std::vector<PassPlan> pack_passes(const Profile& profile, const Schedule& schedule, const Residencies& residencies,
                                  const IndexedVector<TraceIndex, Transients>& transients) {
  std::vector<std::vector<int>> rings_of(schedule.passes.size());
  for (std::size_t r = 0; r < residencies.rings.size(); ++r)
    rings_of[at(pass_of(schedule, residencies.stays[at(residencies.rings[r].stays.front())].begin))].push_back(
        static_cast<int>(r));

  std::vector<PassPlan> result;
  for (std::size_t p = 0; p < schedule.passes.size(); ++p) {
    const Pass& pass = schedule.passes[p];
    const Turns turns(schedule, pass);
    std::vector<std::int64_t> most(at(turns.count()), 0);
    for (CallIndex k = pass.begin; k < pass.end; ++k) {
      std::int64_t& bytes = most[at(turns.position(k))];
      bytes = std::max(bytes, transients[schedule.calls[k].trace].bytes.value());
    }
    pack::Instance instance;
    for (std::size_t i = 0; i < most.size(); ++i) {
      const int position = static_cast<int>(i);
      instance.push_back(
          {position, position + 1, std::max(round_up(Bytes(most[i]), page), Bytes(page)).value(), page, {}});
    }
    PassPlan plan;
    for (int r : rings_of[p]) {
      const Ring& ring = residencies.rings[at(r)];
      const auto lives = span(ring, residencies.stays, turns);
      if (!lives) continue;
      const Bytes block = profile.flow.classes[ring.cls].row * profile.flow.block_tokens(BlockIndex(0)).value();
      instance.push_back({lives->first, lives->second + 1, round_up(block, page).value(), page, {}});
      plan.rings.push_back(r);
    }
    const pack::Packing packing = packed(instance);
    plan.bytes = Bytes(packing.peak);
    for (CallIndex k = pass.begin; k < pass.end; ++k)
      plan.workspaces.emplace_back(packing.offsets[at(turns.position(k))]);
    for (std::size_t i = 0; i < plan.rings.size(); ++i)
      plan.ring_offsets.emplace_back(packing.offsets[most.size() + i]);
    result.push_back(std::move(plan));
  }
  return result;
}

}  // namespace memo::planner
