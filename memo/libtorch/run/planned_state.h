// Where a plan puts the model's state: addresses in the arena, and for paged state also places on the tiers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "memo/exec/checked_step.h"
#include "memo/exec/executor.h"
#include "memo/exec/tiers.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/plan/plan.h"

namespace memo::libtorch {

class PlannedState final : public StatePager {
 public:
  // All arguments must outlive it. The tiers' engine must be idle whenever a group is fetched or stored. Tiers on which
  // the host updates groups are in its memory.
  PlannedState(const plan::Plan& plan, std::byte* arena, const exec::Tiers& tiers);

  [[nodiscard]] StateRegions regions(const StateGroup& group) const { return regions_.at(group); }
  [[nodiscard]] std::optional<StateRegions> on_host(const StateGroup& group) const override;
  Status fetch(const StateGroup& group) override;
  Status store(const StateGroup& group) override;
  // Writes zeros to the tiers for all paged gradients, after a step that failed while it wrote gradients.
  Status rewrite_gradients(exec::ArenaBytes& arena);

 private:
  struct Paged {
    std::string name;
    bool gradients;
    exec::CopyRequest request;
  };
  Status move(std::vector<Paged>& pieces, plan::Direction direction);
  exec::CopyEngine& engine_;
  std::map<StateGroup, StateRegions> regions_, on_host_;
  std::map<StateGroup, std::vector<Paged>> paged_;
};

}  // namespace memo::libtorch
