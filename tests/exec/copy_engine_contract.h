// What every copy engine promises (memo/exec/executor.h), as tests: copy_engine_contract.cpp. A backend derives from
// CopyBackend and instantiates CopyEngineContract (contract.h).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "memo/exec/executor.h"
#include "memo/exec/tier.h"
#include "tests/exec/contract.h"

namespace memo::exec {

struct CopyBackend {
  virtual ~CopyBackend() = default;
  virtual std::unique_ptr<CopyEngine> engine(std::vector<TierStore*> tiers) = 0;
  // A real slow tier; null with a reason in `refusal`: the test is skipped.
  virtual std::unique_ptr<TierStore> tier(Bytes bytes) = 0;
  // Of the device, aligned for copies, lives as long as this.
  virtual std::byte* memory(std::size_t bytes) = 0;
  // Given to the compute stream.
  virtual void write(std::byte* to, std::span<const std::byte> from) = 0;
  // As the compute stream sees it.
  virtual std::vector<std::byte> read(const std::byte* from, std::size_t bytes) = 0;

  std::string refusal;
};

class CopyEngineContract : public Contract<CopyBackend> {};

}  // namespace memo::exec
