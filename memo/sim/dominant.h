// What fills the device at a program's peak, in words.
#pragma once

#include <string>

#include "memo/plan/profile.h"
#include "memo/plan/program.h"

namespace memo::sim {

// What is alive at the fullest boundary, the largest kind first: "weights 118 MiB, qkv 64 MiB, ..."
std::string dominant(const plan::Profile& profile, const plan::Program& program);

}  // namespace memo::sim
