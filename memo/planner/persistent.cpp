// Finds the uses of persistent tensors, and makes stays of them.
#include "memo/planner/persistent.h"

#include <algorithm>

#include "memo/base/check.h"
#include "memo/base/index.h"

namespace memo::planner {
namespace {

struct PersistentAccess {
  CallIndex call;
  int pass = 0;
  bool write = false, update = false;
};

class PersistentBuilder {
 public:
  PersistentBuilder(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                    const Schedule& schedule, const Pace& pace, Residencies& result)
      : flow_(profile.flow),
        instances_(instances),
        placement_(placement),
        schedule_(schedule),
        pace_(pace),
        result_(result) {}

  void build() {
    collect();
    for (const ClassIndex cls : flow_.classes.indices())
      if (flow_.classes[cls].persistent()) {
        hold(cls);
        page(cls);
      }
  }

 private:
  std::vector<PersistentAccess>& accesses(ClassIndex cls, LayerIndex layer) { return accesses_[cls][layer]; }
  const Pass& pass(int p) const { return schedule_.passes[at(p)]; }
  CallIndex calls() const { return schedule_.calls.end_index(); }
  bool kept(ClassIndex cls, LayerIndex layer) const {
    return placement_.place(cls, layer, BlockIndex(0)) != PlacementMap::Place::swap;
  }

  void collect() {
    accesses_.assign(flow_.classes.size(), Layers(at(flow_.layers + 1)));
    for (int p = 0; p < static_cast<int>(schedule_.passes.size()); ++p)
      for (CallIndex k = pass(p).begin; k < pass(p).end; ++k) {
        const Call& call = schedule_.calls[k];
        const model::Segment& segment = flow_.segments[call.segment];
        const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
        for (const bool write : {false, true})
          for (const model::Use& use : write ? side.writes : side.reads)
            if (flow_.classes[use.cls].persistent())
              accesses(use.cls, call.layer + use.layer_shift)
                  .push_back({k, p, write, segment.stage == model::Stage::update});
      }
  }

  int add_ring(ClassIndex cls, int slots) {
    result_.rings.push_back({cls, false, {}, slots});
    return static_cast<int>(result_.rings.size()) - 1;
  }
  void add(const Stay& stay) {
    result_.rings[at(stay.ring)].stays.push_back(static_cast<int>(result_.stays.size()));
    result_.stays.push_back(stay);
  }

  void hold(ClassIndex cls) {
    int ring = -1;
    for (const LayerIndex layer : indices<LayerIndex>(flow_.layers + 1)) {
      if (accesses(cls, layer).empty() || !kept(cls, layer)) continue;
      if (ring < 0) ring = add_ring(cls, 0);
      Stay stay;
      stay.tensor = instances_.of(cls, layer, BlockIndex(0), 0);
      stay.end = calls();
      stay.first_use = accesses(cls, layer).front().call;
      stay.last_use = accesses(cls, layer).back().call;
      stay.held = true;
      stay.ring = ring;
      stay.slot = result_.rings[at(ring)].slots++;
      if (const CallIndex updated = host_update(cls, layer); updated.exists()) stay.refresh_at = updated + 1;
      add(stay);
    }
  }

  // Adds the stays of swapped layers, which take slots in turn.
  void page(ClassIndex cls) {
    std::vector<Stay> stays;
    int layers = 0;
    for (const LayerIndex layer : indices<LayerIndex>(flow_.layers + 1))
      if (!accesses(cls, layer).empty() && !kept(cls, layer)) add_stays(cls, layer, layers++ % pace_.slots, stays);
    if (stays.empty()) return;
    std::ranges::sort(stays, {}, &Stay::first_use);
    const int ring = add_ring(cls, std::min(pace_.slots, layers));
    std::vector<Boundary> free_from(at(pace_.slots));
    for (std::size_t i = 0; i < stays.size(); ++i) {
      Stay& stay = stays[i];
      stay.ring = ring;
      const Boundary free = free_from[at(stay.slot)];
      stay.begin = std::max(free, pass(std::max(0, pass_of(schedule_, stay.first_use) - 1)).begin);
      MEMO_CHECK(stay.begin < stay.first_use, "a slot is free before its next tensor is needed");
      if (stay.zeroed) stay.begin = stay.first_use;
      if (stay.written_out()) {
        const auto next = std::find_if(stays.begin() + static_cast<std::ptrdiff_t>(i) + 1, stays.end(),
                                       [&](const Stay& other) { return other.slot == stay.slot; });
        const int after = pass_of(schedule_, stay.last_use) + 2;
        stay.write_before = after < static_cast<int>(schedule_.passes.size()) ? pass(after).begin : calls();
        const Tensor tensor = instances_.tensor(stay.tensor);
        if (host_update(cls, tensor.layer).exists()) stay.write_before = std::min(stay.write_before, host_updates_);
        if (next != stays.end()) stay.write_before = std::min(stay.write_before, next->first_use - 1);
        MEMO_CHECK(stay.write_before > stay.write_at, "between the uses of a slot there are waits");
        stay.end = stay.write_before;
      }
      free_from[at(stay.slot)] = stay.end;
      add(stay);
    }
  }

  // The call by which the host updates the layer's part that a class belongs to, or none.
  CallIndex host_update(ClassIndex cls, LayerIndex layer) const {
    const bool before = flow_.classes[cls].stage == model::Stage::before;
    for (CallIndex k = host_updates_; k < calls(); ++k) {
      const model::Segment& segment = flow_.segments[schedule_.calls[k].segment];
      const bool here = (segment.role == model::SegmentRole::host_update_before) == before;
      if (segment.stage == model::Stage::host_update && schedule_.calls[k].layer == layer && here) return k;
    }
    return CallIndex::none();
  }
  // The first call that updates on the host; all of them are of one pass, before which all gradients are written out.
  CallIndex first_host_update() const {
    CallIndex k(0);
    while (k < calls() && flow_.segments[schedule_.calls[k].segment].stage != model::Stage::host_update) ++k;
    return k;
  }

  void add_stays(ClassIndex cls, LayerIndex layer, int slot, std::vector<Stay>& stays) {
    const std::vector<PersistentAccess>& uses = accesses(cls, layer);
    for (std::size_t i = 0, j = 0; i < uses.size(); i = j) {
      Stay stay;
      stay.tensor = instances_.of(cls, layer, BlockIndex(0), 0);
      stay.first_use = uses[i].call;
      stay.zeroed = i == 0 && pace_.one_sequence && flow_.classes[cls].role == model::TensorRole::gradients;
      stay.fetched = !stay.zeroed;
      stay.slot = slot;
      bool changed = uses[i].write;
      for (j = i + 1; j < uses.size() && uses[j].pass <= uses[j - 1].pass + 1; ++j) {
        const bool starts_update = uses[j].update && !uses[j - 1].update;
        if (changed && starts_update && !pace_.early_updates) break;  // another sequence of the step may come first
        changed |= uses[j].write;
      }
      stay.last_use = uses[j - 1].call;
      stay.end = stay.last_use + 1;
      if (changed) stay.write_at = stay.end;
      stays.push_back(stay);
    }
  }

  const model::Dataflow& flow_;
  const Instances& instances_;
  const PlacementMap& placement_;
  const Schedule& schedule_;
  const Pace& pace_;
  Residencies& result_;
  const CallIndex host_updates_ = first_host_update();
  using Layers = IndexedVector<LayerIndex, std::vector<PersistentAccess>>;
  IndexedVector<ClassIndex, Layers> accesses_;
};

}  // namespace

void add_persistent(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                    const Schedule& schedule, const Pace& pace, Residencies& result) {
  PersistentBuilder(profile, instances, placement, schedule, pace, result).build();
}

}  // namespace memo::planner
