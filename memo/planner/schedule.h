// The calls of one step in order (memo/model/dataflow.h draws it), with reruns where a placement recomputes.
#pragma once

#include <vector>

#include "memo/plan/operands.h"
#include "memo/plan/plan.h"
#include "memo/plan/profile.h"
#include "memo/plan/program.h"

namespace memo::planner {

using namespace plan;  // what is decided

// The placement of each (class, layer); a class or layer that is not listed is kept.
class PlacementMap {
 public:
  PlacementMap(const model::Dataflow& flow, const std::vector<ClassPlacement>& placement);
  enum class Place { recompute, swap, keep };
  [[nodiscard]] Place place(ClassIndex cls, LayerIndex layer, BlockIndex block) const;
  // How many blocks, the first ones.
  [[nodiscard]] int recomputed(ClassIndex cls, LayerIndex layer) const { return entry(cls, layer).recomputed; }
  [[nodiscard]] int tier(ClassIndex cls, LayerIndex layer) const { return entry(cls, layer).tier; }
  [[nodiscard]] bool streamed(ClassIndex cls, LayerIndex layer) const { return entry(cls, layer).streamed; }
  // Whether all of a persistent class stays on its tier.
  [[nodiscard]] bool stays(ClassIndex cls, LayerIndex layer) const {
    return flow_.classes[cls].persistent() && entry(cls, layer).swapped > 0 && !entry(cls, layer).streamed;
  }
  // Whether the host updates the layer's parameters of this stage.
  [[nodiscard]] bool host_updates(model::Stage stage, LayerIndex layer) const {
    const ClassIndex state = flow_.find_class(model::TensorRole::optimizer, stage);
    return state.exists() && stays(state, layer);
  }
  [[nodiscard]] bool any_streamed() const { return any_streamed_; }

 private:
  [[nodiscard]] std::size_t number(ClassIndex cls, LayerIndex layer) const {
    return at(cls.value() * layers_ + layer.value());
  }
  [[nodiscard]] const ClassPlacement& entry(ClassIndex cls, LayerIndex layer) const {
    return table_[number(cls, layer)];
  }
  const model::Dataflow& flow_;
  int layers_;
  bool any_streamed_ = false;
  std::vector<ClassPlacement> table_;  // [class][layer]
};

// Consecutive calls that belong together: one loop over the blocks, or one core call. When tensors are streamed, a pass
// begins with two wait calls: tensors of the pass before are written out after the first, and may be fetched during the
// second.
struct Pass {
  CallIndex begin, end;  // calls [begin, end)
  bool core = false;
  bool backward = false;
  std::vector<CallIndex> iterations;  // the first call of each block's turn; of a core pass, its one call
};

struct Schedule {
  IndexedVector<CallIndex, Call> calls;  // workspace not yet set
  std::vector<Pass> passes;              // in order, covering all calls
};

// The pass that contains a call.
int pass_of(const Schedule& schedule, CallIndex call);

// `early_updates`: see Pace.
Schedule schedule(const Profile& profile, const PlacementMap& placement, bool early_updates);

}  // namespace memo::planner
