// Where a plan has the model's state: addresses in the arena and, of what is paged, places on the tiers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "memo/exec/tier.h"
#include "memo/plan/plan.h"
#include "memo/torch/model_state.h"

namespace memo::edge {

class PlannedState final : public StatePager {
 public:
  // All must outlive it; `stores[i]` is the plan's tier i.
  PlannedState(const plan::Plan& plan, std::byte* arena, const std::vector<exec::TierStore*>& stores);

  [[nodiscard]] StateRegions regions(const StateGroup& group) const { return regions_.at(group); }
  Status fetch(const StateGroup& group) override;
  Status store(const StateGroup& group) override;
  // Gives gradients that are paged a content on their tiers, any, after a step that failed while it wrote them.
  Status rewrite_gradients();

 private:
  struct Paged {
    std::string name;
    bool gradients;
    std::byte* memory;
    Bytes bytes, tier_offset;
    std::size_t tier;
  };
  Status write(const Paged& p);
  const std::vector<exec::TierStore*>& stores_;
  std::map<StateGroup, StateRegions> regions_;
  std::map<StateGroup, std::vector<Paged>> paged_;
};

}  // namespace memo::edge
