// Where a plan has the model's state: addresses in the arena and, of what is paged, places on the tiers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "memo/exec/checked_step.h"
#include "memo/exec/executor.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/plan/plan.h"

namespace memo::libtorch {

class PlannedState final : public StatePager {
 public:
  // All must outlive it. The engine is idle whenever something is fetched or stored.
  PlannedState(const plan::Plan& plan, std::byte* arena, exec::CopyEngine& engine);

  [[nodiscard]] StateRegions regions(const StateGroup& group) const { return regions_.at(group); }
  Status fetch(const StateGroup& group) override;
  Status store(const StateGroup& group) override;
  // Gives gradients that are paged a content on their tiers, zeros, after a step that failed while it wrote them.
  Status rewrite_gradients(exec::ArenaBytes& arena);

 private:
  struct Paged {
    std::string name;
    bool gradients;
    exec::CopyRequest request;
  };
  Status move(std::vector<Paged>& pieces, plan::Direction direction);
  exec::CopyEngine& engine_;
  std::map<StateGroup, StateRegions> regions_;
  std::map<StateGroup, std::vector<Paged>> paged_;
};

}  // namespace memo::libtorch
