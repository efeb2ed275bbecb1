// Keeps the largest arena and the largest tiers that plans have asked for.
#include "memo/plugin/session_memory.h"

#include <algorithm>
#include <utility>

#include "memo/libtorch/memory/allocator.h"

namespace memo::plugin {
namespace {

// Whether no session holds the arena, and external code, or an exception of it, keeps no tensor there.
bool is_unused(const std::shared_ptr<libtorch::Arena>& arena) {
  return arena && arena.use_count() == 1 && (arena->data() == nullptr || libtorch::blocks_in_arena(arena->data()) == 0);
}

}  // namespace

Result<SessionMemory::Parts> SessionMemory::take(const plan::Plan& plan, const job::MemoryLimits& limits,
                                                 libtorch::Device& device, Bytes most) {
  const Bytes wanted = plan.program.arena;
  const bool unused = is_unused(kept_.arena);
  const bool allowed = unused && (most == Bytes(0) || kept_.arena->bytes() <= most);
  if (allowed && kept_.arena->bytes() >= wanted) {
    kept_.arena->clear();
  } else {
    kept_.arena.reset();  // before new memory is taken
    MEMO_TRY(libtorch::Arena arena, device.map(wanted));
    kept_.arena = std::make_shared<libtorch::Arena>(std::move(arena));
  }

  std::vector<std::string> names;
  for (const plan::Tier& tier : plan.profile.tiers) names.push_back(tier.name);
  std::vector<Bytes> bytes = plan.program.tier_bytes;
  const bool ours = kept_.tiers && kept_.tiers.use_count() == 1 && names == names_;
  if (!ours || !std::ranges::equal(bytes, tier_bytes_, std::ranges::less_equal())) {
    if (ours)
      std::ranges::transform(bytes, tier_bytes_, bytes.begin(), [](Bytes a, Bytes b) { return std::max(a, b); });
    kept_.tiers.reset();
    plan::Plan larger;
    larger.profile.tiers = plan.profile.tiers;
    larger.program.tier_bytes = bytes;
    MEMO_TRY(exec::Tiers tiers, exec::open_tiers(larger, limits, device));
    kept_.tiers = std::make_shared<exec::Tiers>(std::move(tiers));
    names_ = std::move(names);
    tier_bytes_ = std::move(bytes);
  }
  return kept_;
}

void SessionMemory::free() { *this = {}; }

}  // namespace memo::plugin
