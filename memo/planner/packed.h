// Calls the packer with the same settings for all levels of a plan.
#pragma once

#include "memo/base/check.h"
#include "memo/pack/pack.h"

namespace memo::planner {

inline constexpr std::int64_t page = 4096;      // of rings, passes and fixed regions
inline constexpr std::int64_t cache_line = 64;  // of transients: kernels see the same alignment whatever the plan

inline pack::Packing packed(const pack::Instance& instance) {
  pack::Options options;
  options.rounds = 24;  // not a time limit: the same plan on every machine. The first orders nearly always do.
  pack::Packing packing = pack::pack(instance, options);
  MEMO_CHECK(packing.offsets.size() == instance.size(), "a packing without a capacity always has an answer");
  return packing;
}

}  // namespace memo::planner
