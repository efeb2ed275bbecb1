// The memory that a model's sessions use in turn, so that lengths which alternate allocate and register it once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/exec/tiers.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/arena.h"
#include "memo/libtorch/memory/device.h"
#include "memo/plan/plan.h"

namespace memo::plugin {

class SessionMemory {
 public:
  // What a session holds while it may run calls.
  struct Parts {
    std::shared_ptr<libtorch::Arena> arena;
    std::shared_ptr<exec::Tiers> tiers;
  };

  // Memory for a plan: what is kept, where it is large enough, no arena above `most` (0: none is), and nothing is left
  // in it of an earlier session; otherwise new memory, which is kept from then on. `limits` and `device` are the same
  // for all plans.
  Result<Parts> take(const plan::Plan& plan, const job::MemoryLimits& limits, libtorch::Device& device,
                     Bytes most = Bytes(0));
  // Keeps nothing any more. Sessions keep what they hold.
  void free();

 private:
  Parts kept_;
  std::vector<std::string> names_;  // of the tiers
  std::vector<Bytes> tier_bytes_;
};

}  // namespace memo::plugin
