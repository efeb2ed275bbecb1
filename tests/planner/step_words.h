// The calls and tensors of a step in words, from the dataflow's table alone: what tests of the planner's parts count
// with. `plain` is the one place that knows how tables are numbered.
#pragma once

#include <fmt/format.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "memo/planner/residency.h"
#include "memo/planner/streaming.h"
#include "tests/plan/synthetic_profile.h"

namespace memo::planner {

inline int plain(int index) { return index; }
template <class Tag>
int plain(Index<Tag> index) {
  return index.value();
}
inline const auto& item(const auto& list, auto index) { return *(list.begin() + plain(index)); }

// Four blocks of 16 KiB a tensor, the last one of 37 rows, no whole pages; two head groups.
inline Profile small_step(int layers = 3) {
  return plan::synthetic_profile({.hidden = 64,
                                  .layers = layers,
                                  .heads = 2,
                                  .kv_heads = 2,
                                  .ffn = 64,
                                  .groups = 2,
                                  .context = 3 * 64 + 37,
                                  .block = 64});
}

// "attn_in(1) block 2", "attention'(0) group 1", "mlp_in again(0) block 0", "update.before(2)", "wait".
inline std::string word(const model::Dataflow& flow, const Call& call) {
  const model::Segment& segment = item(flow.segments, call.segment);
  if (segment.stage == model::Stage::wait || segment.stage == model::Stage::optimizer) return segment.name;
  const char* phase = call.phase == Phase::backward ? "'" : call.phase == Phase::rerun ? " again" : "";
  std::string result = segment.name + phase;
  if (segment.stage != model::Stage::loss && segment.stage != model::Stage::embedding)
    result += fmt::format("({})", plain(call.layer));
  if (plain(call.group) >= 0) result += fmt::format(" group {}", plain(call.group));
  if (plain(call.block) >= 0) result += fmt::format(" block {}", plain(call.block));
  return result;
}

inline std::vector<std::string> words(const model::Dataflow& flow, const std::vector<Call>& calls) {
  std::vector<std::string> result;
  for (const Call& call : calls) result.push_back(word(flow, call));
  return result;
}

inline std::string tensor_word(const model::Dataflow& flow, auto cls, int layer, int block, int group) {
  return fmt::format("{}({}) block {} group {}", item(flow.classes, cls).name, layer, block, group);
}
inline std::string tensor_word(const model::Dataflow& flow, const Tensor& t) {
  return tensor_word(flow, t.cls, plain(t.layer), plain(t.block), plain(t.group));
}

// The tensors that a call reads or writes.
struct Touched {
  std::set<std::string> reads, writes;
};
inline Touched touched(const model::Dataflow& flow, const Call& call) {
  const model::Segment& segment = item(flow.segments, call.segment);
  const model::Side& side = call.phase == Phase::backward ? segment.backward : segment.forward;
  const bool core = segment.stage == model::Stage::core;
  Touched result;
  const auto add = [&](const std::vector<model::Use>& uses, std::set<std::string>& to) {
    for (const model::Use& use : uses) {
      const model::TensorClass& cls = item(flow.classes, use.cls);
      for (int g = 0; g < (cls.grouped ? flow.groups : 1); ++g)
        for (int b = 0; b < (cls.persistent() ? 1 : flow.blocks()); ++b) {
          const bool own_group = !cls.grouped || use.every_group || g == plain(call.group);
          const bool prefix = core && plain(call.block) > 0;  // of core attention: so many blocks
          const bool own_block =
              cls.persistent() || (use.whole_sequence ? !prefix || b < plain(call.block) : b == plain(call.block));
          if (own_group && own_block)
            to.insert(tensor_word(flow, use.cls, plain(call.layer) + plain(use.layer_shift), b, g));
        }
    }
  };
  add(side.reads, result.reads);
  add(side.writes, result.writes);
  return result;
}

struct NamedPlacement {
  std::string name;
  Placement placement;
};
inline std::vector<NamedPlacement> placements(const Profile& profile) {
  const Placement swapped = place_swapped(profile, 0), again = place_recompute(profile, 0);
  return {{"resident", place_resident(profile)},
          {"recompute", place_recompute(profile, -1)},
          {"offload", again},
          {"swapped", swapped},
          {"streamed", streamed(swapped, profile, 0)},
          {"streamed and recomputed", streamed(again, profile, 0)},
          {"paged", paged(streamed(swapped, profile, 0), profile, 0, Paged::weights, profile.flow.layers)}};
}

}  // namespace memo::planner
