// What every tier promises (memo/exec/tier.h), as tests: tier_contract.cpp. A tier derives from TierKind and
// instantiates TierContract (contract.h); where operations of it can fail, it derives from FailingTierKind and
// instantiates FailingTierContract too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "memo/exec/tier.h"
#include "tests/exec/contract.h"

namespace memo::exec {

struct TierKind {
  explicit TierKind(std::int64_t of) : alignment(of) {}
  virtual ~TierKind() = default;
  virtual Result<std::unique_ptr<TierStore>> open(Bytes bytes) = 0;

  const std::int64_t alignment;  // of offsets, sizes and addresses
  std::string refusal;
};

// Its operations of the tier that was opened last fail from `fail_...` to `heal`.
struct FailingTierKind : TierKind {
  using TierKind::TierKind;
  virtual void fail_writes() = 0;
  virtual void fail_reads() = 0;
  virtual void heal() = 0;
};

class TierContract : public Contract<TierKind> {
 protected:
  const std::int64_t unit = kind->alignment;
};

class FailingTierContract : public Contract<FailingTierKind> {
 protected:
  const std::int64_t unit = kind->alignment;
};

}  // namespace memo::exec
