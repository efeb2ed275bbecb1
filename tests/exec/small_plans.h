// Plans of one small model that use every way a tensor can travel: kept, computed again, swapped, streamed between
// passes, paged parameters.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "memo/planner/build.h"
#include "memo/planner/placement.h"
#include "memo/planner/streaming.h"
#include "tests/plan/synthetic_profile.h"

namespace memo::exec {

// Blocks of 4 KiB and more, one head a group.
inline plan::Profile small_profile(int layers, int blocks) {
  plan::Profile profile = plan::synthetic_profile({.hidden = 32,
                                                   .layers = layers,
                                                   .heads = 2,
                                                   .kv_heads = 2,
                                                   .ffn = 32,
                                                   .groups = 2,
                                                   .context = blocks * 64,
                                                   .block = 64});
  for (plan::Trace& trace : profile.traces)
    for (plan::Request& request : trace.requests) request.bytes = std::min(request.bytes, Bytes(1 << 12));
  for (plan::Fixed& fixed : profile.fixed) fixed.bytes = Bytes(4096);
  return profile;
}

struct NamedPlan {
  std::string name;
  plan::Plan plan;
};

inline std::vector<NamedPlan> small_plans(int layers, int blocks) {
  const plan::Profile profile = small_profile(layers, blocks);
  using namespace planner;
  std::vector<NamedPlan> result;
  const auto add = [&](std::string name, const Placement& placement, const Pace& pace) {
    plan::Plan plan;
    plan.strategy = "memo";
    plan.profile = profile;
    plan.placement = placement.classes;
    plan.program = build_program(profile, placement.classes, pace).program;
    result.push_back({std::move(name), std::move(plan)});
  };
  const Placement swapped = place_swapped(profile, 0), again = place_recompute(profile, 0);
  add("resident", place_resident(profile), {});
  add("recompute", place_recompute(profile, -1), {});
  for (const int slots : {1, 2}) {
    const std::string with = " with " + std::to_string(slots) + " slots";
    add("offload" + with, again, {slots});
    add("swapped" + with, swapped, {slots});
    add("relaxed" + with, swapped, {slots, true});
    add("streamed" + with, streamed(swapped, profile, 0), {slots});
    add("streamed and recomputed" + with, streamed(again, profile, 0), {slots});
    add("paged" + with, paged(streamed(swapped, profile, 0), profile, 0, Paged::weights, layers), {slots});
    add("paged, early updates" + with, paged(streamed(swapped, profile, 0), profile, 0, Paged::weights, layers),
        {slots, false, true});
  }
  return result;
}

}  // namespace memo::exec
