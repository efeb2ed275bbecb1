#include "memo/torch/planned_state.h"

#include <optional>
#include <set>

#include "memo/exec/names.h"

namespace memo::edge {
namespace {

// Which group and region a class of the dataflow holds.
struct Piece {
  model::Stage stage;
  std::size_t kind;
};

std::map<int, Piece> pieces(const model::Dataflow& flow) {
  static constexpr const char* kinds[] = {"weights", "gradients", "optimizer"};
  std::map<int, Piece> result;
  for (const auto& [stage, name] : {std::pair(model::Stage::before, ".before"), {model::Stage::after, ".after"}})
    for (std::size_t kind = 0; kind < 3; ++kind)
      result[flow.find_class(std::string(kinds[kind]) + name)] = {stage, kind};
  return result;
}

}  // namespace

PlannedState::PlannedState(const plan::Plan& plan, std::byte* arena, const std::vector<exec::TierStore*>& stores)
    : stores_(stores) {
  const plan::Program& program = plan.program;
  for (std::size_t kind = 0; kind < 3; ++kind) regions_[{}][kind] = arena + program.fixed[kind].offset.value();
  const std::map<int, Piece> piece_of = pieces(plan.profile.flow);
  std::set<std::pair<StateGroup, std::size_t>> paged;  // a tensor has many copies, to one place
  const auto find = [&](const plan::Tensor& tensor) -> std::optional<std::pair<StateGroup, std::size_t>> {
    const auto piece = piece_of.find(tensor.cls);
    if (piece == piece_of.end()) return {};
    return std::pair(StateGroup{tensor.layer, piece->second.stage}, piece->second.kind);
  };
  for (const plan::Residency& r : program.residencies)
    if (const auto found = find(program.tensors[static_cast<std::size_t>(r.tensor)]))
      regions_[found->first][found->second] = arena + r.offset.value();
  for (const plan::Copy& copy : program.copies) {
    const plan::Residency& r = program.residencies[static_cast<std::size_t>(copy.residency)];
    const plan::Tensor& tensor = program.tensors[static_cast<std::size_t>(r.tensor)];
    const auto found = find(tensor);
    if (!found || !paged.insert(*found).second) continue;
    paged_[found->first].push_back({exec::name_of_tensor(plan.profile.flow, tensor), found->second == 1,
                                    arena + r.offset.value(), round_up(tensor.bytes, plan::copy_alignment),
                                    copy.tier_offset, static_cast<std::size_t>(copy.tier)});
  }
}

Status PlannedState::write(const Paged& p) {
  if (const Status wrote = stores_[p.tier]->write(p.tier_offset.value(), p.memory, p.bytes.value()); !wrote)
    return fail(wrote.error().kind, p.name + ": " + wrote.error().message);
  return {};
}

Status PlannedState::fetch(const StateGroup& group) {
  for (const Paged& p : paged_[group])
    if (const Status read = stores_[p.tier]->read(p.tier_offset.value(), p.memory, p.bytes.value()); !read)
      return fail(read.error().kind, p.name + ": " + read.error().message);
  return {};
}

Status PlannedState::store(const StateGroup& group) {
  for (const Paged& p : paged_[group]) MEMO_CHECKED(write(p));
  return {};
}

Status PlannedState::rewrite_gradients() {
  for (const auto& [group, paged] : paged_)
    for (const Paged& p : paged)
      if (p.gradients) MEMO_CHECKED(write(p));
  return {};
}

}  // namespace memo::edge
