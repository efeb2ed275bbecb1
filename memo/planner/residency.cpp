// Cuts the uses of tensors into stays, and gives each its copies and ring.
#include "memo/planner/residency.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "memo/base/check.h"
#include "memo/base/index.h"
#include "memo/planner/persistent.h"

namespace memo::planner {

bool swappable(const Profile& profile, ClassIndex cls, int tier) {
  if (tier < 0 || tier >= static_cast<int>(profile.tiers.size())) return false;
  const model::TensorClass& c = profile.flow.classes[cls];
  const std::int64_t smallest_copy = c.sequence ? 4 * 1024 : 16 * 1024;  // blocks of a sequence follow one another
  const std::int64_t block = c.row.value() * profile.flow.block.value();
  return block >= smallest_copy && block % profile.tiers[at(tier)].alignment == 0;
}

namespace {

struct Access {
  CallIndex call;
  bool write = false, whole = false;
};

class StayBuilder {
 public:
  StayBuilder(const Profile& profile, const Instances& instances, const PlacementMap& placement,
              const Schedule& schedule, const Pace& pace)
      : profile_(profile), instances_(instances), placement_(placement), schedule_(schedule), pace_(pace) {
    pass_of_.resize(schedule.calls.size());
    for (std::size_t p = 0; p < schedule.passes.size(); ++p)
      for (CallIndex k = schedule.passes[p].begin; k < schedule.passes[p].end; ++k) pass_of_[k] = static_cast<int>(p);
  }

  Residencies build() {
    collect_accesses();
    for (const InstanceIndex t : accesses_.indices())
      if (!accesses_[t].empty()) add_stays(t);
    for (Ring& ring : result_.rings) {
      order(ring);
      pace_writes(ring);
    }
    for (Ring& ring : result_.rings) {
      pace_fetches(ring);
      order(ring);
    }
    return std::move(result_);
  }

 private:
  const Pass& pass(int p) const { return schedule_.passes[at(p)]; }
  const model::TensorClass& cls_of(const Tensor& tensor) const { return profile_.flow.classes[tensor.cls]; }

  void collect_accesses() {
    accesses_.resize(at(instances_.size()));
    for (const CallIndex k : schedule_.calls.indices()) {
      const Operands used = operands(profile_.flow, instances_, schedule_.calls[k]);
      const auto add = [&](const Operand& operand, bool write) {
        const Tensor first = instances_.tensor(operand.tensor);
        if (cls_of(first).persistent()) return;
        for (int b = 0; b < operand.blocks; ++b) {
          const InstanceIndex t = instances_.of(first.cls, first.layer, first.block + b, first.group);
          accesses_[t].push_back({k, write, operand.sequence});
        }
      };
      for (const Operand& operand : used.reads) add(operand, false);
      for (const Operand& operand : used.writes) add(operand, true);
    }
  }

  void add_stays(InstanceIndex t) {
    const Tensor tensor = instances_.tensor(t);
    const std::vector<Access>& uses = accesses_[t];
    MEMO_CHECK(uses.front().write, "a tensor is written before it is read");
    auto place = placement_.place(tensor.cls, tensor.layer, tensor.block);
    const int tier = placement_.tier(tensor.cls, tensor.layer);
    if (place == PlacementMap::Place::swap && !swappable(profile_, tensor.cls, tier)) place = PlacementMap::Place::keep;

    int life = 0;
    for (std::size_t i = 0, j = 0; i < uses.size(); i = j) {
      Stay stay;
      stay.tensor = t;
      stay.first_use = uses[i].call;
      stay.fetched = !uses[i].write;
      for (j = i + 1; j < uses.size() && !leaves_between(tensor, place, uses[j - 1], uses[j]);) ++j;
      stay.last_use = uses[j - 1].call;
      stay.begin = stay.first_use;
      stay.end = stay.last_use + 1;
      if (!stay.fetched && i > 0) ++life;
      stay.life = life;
      if (!stay.fetched && j < uses.size() && !uses[j].write) {
        stay.write_at = stay.first_use + 1;
        stay.next_use = uses[j].call;
      }
      CallIndex whole = CallIndex::none();
      for (std::size_t u = i; u < j; ++u)
        if (uses[u].whole) whole = uses[u].call;
      stay.ring = ring_of(tensor, stay, whole);
      result_.rings[at(stay.ring)].stays.push_back(static_cast<int>(result_.stays.size()));
      result_.stays.push_back(stay);
    }
  }

  // Whether the tensor is off the device between two consecutive uses.
  bool leaves_between(const Tensor& tensor, PlacementMap::Place place, const Access& before,
                      const Access& after) const {
    if (after.write) return true;  // by a rerun: the same bits, wherever it writes them
    if (place == PlacementMap::Place::keep) return false;
    const bool streamed = placement_.streamed(tensor.cls, tensor.layer) &&
                          swappable(profile_, tensor.cls, placement_.tier(tensor.cls, tensor.layer));
    if (streamed) return pass_of_[before.call] != pass_of_[after.call];
    if (place == PlacementMap::Place::recompute) return false;
    const Pass& p = pass(pass_of_[before.call]);
    const Pass& q = pass(pass_of_[after.call]);
    if (p.backward != q.backward) return true;
    return q.backward && !cls_of(tensor).sequence && &p != &q;
  }

  // `whole`: the last call of the stay that takes a whole sequence, whose blocks must lie together, if one does.
  // (The last, because a rerun writes some of the blocks that core attention's backward then reads as a whole.)
  int ring_of(const Tensor& tensor, const Stay& stay, CallIndex whole) {
    const int first = pass_of_[whole.exists() ? whole : stay.first_use];
    const int last = whole.exists() ? -1 : pass_of_[stay.last_use];
    const auto key = std::tuple(tensor.cls, tensor.group, tensor.layer, first, last);
    const auto [found, is_new] = ring_index_.try_emplace(key, static_cast<int>(result_.rings.size()));
    if (is_new) result_.rings.push_back({tensor.cls, whole.exists(), {}});
    return found->second;
  }

  void order(Ring& ring) {
    std::stable_sort(ring.stays.begin(), ring.stays.end(), [&](int a, int b) {
      const Stay& x = result_.stays[at(a)];
      const Stay& y = result_.stays[at(b)];
      return std::tie(x.begin, x.first_use) < std::tie(y.begin, y.first_use);
    });
  }

  // The boundary by which tensors that leave in pass p must be written out: the begin of the next pass of the other
  // kind, or one pass later.
  Boundary deadline(int p) const {
    if (placement_.any_streamed() && !pace_.relaxed) return pass(std::min(p + 1, last_pass())).begin + 1;
    if (placement_.any_streamed()) return pass(std::min(p + 2, last_pass())).begin;
    int q = p + 1;
    while (q < last_pass() && pass(q).core == pass(p).core) ++q;
    if (pace_.relaxed) {
      const int r = q;
      while (q < last_pass() && pass(q).core == pass(r).core) ++q;
    }
    return pass(q).begin;
  }
  int last_pass() const { return static_cast<int>(schedule_.passes.size()) - 1; }

  void pace_writes(const Ring& ring) {
    std::vector<int> leaving;
    for (int s : ring.stays)
      if (result_.stays[at(s)].written_out()) leaving.push_back(s);
    for (std::size_t i = 0; i < leaving.size(); ++i) {
      Stay& stay = result_.stays[at(leaving[i])];
      const std::size_t next = i + at(pace_.slots);
      const bool reused = !ring.sequence && next < leaving.size();
      stay.write_before = reused ? result_.stays[at(leaving[next])].begin : deadline(pass_of_[stay.last_use]);
      stay.write_before = std::min(stay.write_before, stay.next_use - 1);
      stay.write_before = std::max({stay.write_before, stay.end, stay.write_at + 1});
      stay.end = stay.write_before;
      written_by_[{stay.tensor, stay.life}] = stay.write_before;
    }
  }

  void pace_fetches(const Ring& ring) {
    std::vector<int> arriving;
    for (int s : ring.stays)
      if (result_.stays[at(s)].fetched) arriving.push_back(s);
    for (std::size_t i = 0; i < arriving.size(); ++i) {
      Stay& stay = result_.stays[at(arriving[i])];
      const int p = pass_of_[stay.first_use];
      Boundary start = pass(p).core ? before_core(p) : pass(pace_.relaxed && p > 0 ? p - 1 : p).begin;
      if (!pass(p).core && i >= at(pace_.slots)) {
        const Stay& gone = result_.stays[at(arriving[i - at(pace_.slots)])];
        start = std::max(start, ring.sequence ? gone.first_use + 1 : gone.end);
      }
      const auto written = written_by_.find({stay.tensor, stay.life});
      MEMO_CHECK(written != written_by_.end() && written->second < stay.first_use, "a fetch follows its write");
      stay.begin = std::max(std::min(start, stay.first_use - 1), written->second);
    }
  }

  // The boundary at which fetches for a core call start: during the previous core call, or in the last iterations of
  // the loop before it.
  Boundary before_core(int p) const {
    if (p == 0) return Boundary(0);
    if (placement_.any_streamed()) return pass(pace_.relaxed ? p - 1 : p).begin;
    const Pass& previous = pass(p - 1);
    if (previous.core || pace_.relaxed) return previous.begin;
    const int iteration = (previous.end - previous.begin) / profile_.flow.blocks();
    return std::max(previous.begin, previous.end - iteration * pace_.slots);
  }

  const Profile& profile_;
  const Instances& instances_;
  const PlacementMap& placement_;
  const Schedule& schedule_;
  const Pace& pace_;
  IndexedVector<CallIndex, int> pass_of_;
  IndexedVector<InstanceIndex, std::vector<Access>> accesses_;
  std::map<std::tuple<ClassIndex, int, LayerIndex, int, int>, int> ring_index_;
  std::map<std::pair<InstanceIndex, int>, Boundary> written_by_;  // (tensor, life) -> by when it is out
  Residencies result_;
};

}  // namespace

Residencies residencies(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                        const Schedule& schedule, const Pace& pace) {
  Residencies result = StayBuilder(profile, instances, placement, schedule, pace).build();
  add_persistent(profile, instances, placement, schedule, pace, result);
  return result;
}

}  // namespace memo::planner
