// Regions of each group of the state, and the copies that bring paged groups in and out between steps.
#include "memo/libtorch/run/planned_state.h"

#include <optional>
#include <set>

#include "memo/base/check.h"
#include "memo/base/index.h"
#include "memo/exec/names.h"

namespace memo::libtorch {
namespace {

// Which of a group's regions a class holds; none when it holds no state.
std::optional<std::size_t> region_of(const model::TensorClass& cls) {
  switch (cls.role) {
    case model::TensorRole::weights:
      return 0;
    case model::TensorRole::gradients:
      return 1;
    case model::TensorRole::optimizer:
      return 2;
    default:
      return {};
  }
}

}  // namespace

PlannedState::PlannedState(const plan::Plan& plan, std::byte* arena, const exec::Tiers& tiers)
    : engine_(*tiers.engine) {
  const plan::Program& program = plan.program;
  for (std::size_t kind = 0; kind < 3; ++kind) regions_[{}][kind] = arena + program.fixed[kind].offset.value();
  std::set<std::pair<StateGroup, std::size_t>> paged;  // a set, since a tensor has many copies, all to one place
  const auto find = [&](const plan::Tensor& tensor) -> std::optional<std::pair<StateGroup, std::size_t>> {
    const model::TensorClass& cls = plan.profile.flow.classes[tensor.cls];
    const auto region = region_of(cls);
    if (!region) return {};
    return std::pair(StateGroup{tensor.layer, cls.stage}, *region);
  };
  const auto on_host = [&](int tier, Bytes offset, Bytes bytes) {
    return tiers.stores[at(tier)]->pinned(offset.value(), bytes.value());
  };
  for (const plan::OnTier& it : program.on_tier) {
    const plan::Tensor& tensor = program.tensors[it.tensor];
    const auto found = find(tensor);
    MEMO_CHECK(found, "what stays on a tier is a group's state");
    on_host_[found->first][found->second] = on_host(it.tier, it.tier_offset, tensor.bytes);
  }
  for (const plan::Residency& r : program.residencies)
    if (const auto found = find(program.tensors[r.tensor]))
      regions_[found->first][found->second] = arena + r.offset.value();
  for (const plan::Copy& copy : program.copies) {
    const plan::Residency& r = program.residencies[copy.residency];
    const plan::Tensor& tensor = program.tensors[r.tensor];
    const auto found = find(tensor);
    if (!found || !paged.insert(*found).second) continue;
    paged_[found->first].push_back({exec::name_of_tensor(plan.profile.flow, tensor),
                                    found->second == 1,
                                    {.device = arena + r.offset.value(),
                                     .bytes = round_up(tensor.bytes, plan::copy_alignment),
                                     .tier = copy.tier,
                                     .tier_offset = copy.tier_offset}});
    if (const auto host = on_host_.find(found->first); host != on_host_.end())
      host->second[found->second] = on_host(copy.tier, copy.tier_offset, tensor.bytes);
  }
}

Status PlannedState::move(std::vector<Paged>& pieces, plan::Direction direction) {
  std::vector<std::pair<const Paged*, exec::Ticket>> moving;
  for (Paged& paged : pieces) {
    paged.request.direction = direction;
    moving.emplace_back(&paged, engine_.start(paged.request, 0));
  }
  Status result;
  for (const auto& [paged, ticket] : moving)
    if (const Status moved = engine_.wait(ticket); result && !moved)
      result = fail(moved.error().kind, paged->name + ": " + moved.error().message);
  const Status drained = engine_.drain();
  engine_.take_spans(direction);  // these spans belong to no step
  return result ? drained : result;
}

Status PlannedState::fetch(const StateGroup& group) { return move(paged_[group], plan::Direction::in); }
Status PlannedState::store(const StateGroup& group) {
  return move(paged_[group], on_host_.contains(group) ? plan::Direction::in : plan::Direction::out);
}

std::optional<StateRegions> PlannedState::on_host(const StateGroup& group) const {
  const auto found = on_host_.find(group);
  return found == on_host_.end() ? std::nullopt : std::optional(found->second);
}

Status PlannedState::rewrite_gradients(exec::ArenaBytes& arena) {
  for (auto& [group, paged] : paged_) {
    std::vector<Paged> gradients;
    for (const Paged& p : paged) {
      if (!p.gradients) continue;
      MEMO_CHECKED(arena.fill(p.request.device, p.request.bytes, 0));
      gradients.push_back(p);
    }
    MEMO_CHECKED(move(gradients, plan::Direction::out));
  }
  return {};
}

}  // namespace memo::libtorch
