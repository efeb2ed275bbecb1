// Says which kinds of memory fill the device at a program's peak.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "memo/plan/profile.h"
#include "memo/plan/program.h"

namespace memo::planner {

// Bytes that are alive at the fullest boundary, by kind (fixed memory, tensor classes, transients), largest first.
using Kinds = std::vector<std::pair<std::string, Bytes>>;
Kinds kinds_at_peak(const plan::Profile& profile, const plan::Program& program);
// The largest kinds in words: "weights 118 MiB, qkv 64 MiB, ..."
std::string dominant(const Kinds& kinds);

}  // namespace memo::planner
