// What the executor asks of any device: copies between its memory and the tiers, and a tier in the host's memory.
#pragma once

#include <memory>
#include <vector>

#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/exec/checked_step.h"
#include "memo/exec/executor.h"
#include "memo/exec/tier.h"

namespace memo::exec {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual Result<std::unique_ptr<TierStore>> host_tier(Bytes bytes) = 0;
  // `tiers[i]` is the store of the program's tier i; stores and device must outlive the engine.
  virtual Result<std::unique_ptr<CopyEngine>> copy_engine(std::vector<TierStore*> tiers) = 0;
  virtual ArenaBytes& bytes() = 0;  // access to the mapped memory, for check mode
};

}  // namespace memo::exec
