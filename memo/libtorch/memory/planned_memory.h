// A plan's addresses as the calls need them: for each call the planned requests of the allocator and, for each operand
// that is not lasting, the tensor and its address.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "memo/libtorch/memory/allocator.h"
#include "memo/plan/operands.h"
#include "memo/plan/plan.h"

namespace memo::libtorch {

struct PlannedOperand {
  plan::InstanceIndex tensor;
  std::byte* address = nullptr;
  Bytes bytes;
  std::int64_t tokens = 0;  // rows: of the block, or of the whole sequence
  plan::ClassIndex cls;
  int group = 0;
};

class PlannedMemory {
 public:
  PlannedMemory(const plan::Plan& plan, std::byte* arena);

  [[nodiscard]] std::span<const PlannedOperand> reads(plan::CallIndex call) const { return slice(call, 0); }
  [[nodiscard]] std::span<const PlannedOperand> writes(plan::CallIndex call) const { return slice(call, 1); }
  // In the order in which the call allocates.
  [[nodiscard]] std::vector<PlannedRequest> requests(plan::CallIndex call) const;

 private:
  [[nodiscard]] std::span<const PlannedOperand> slice(plan::CallIndex call, int side) const;
  const plan::Plan& plan_;
  std::byte* arena_;
  std::vector<PlannedOperand> operands_;
  std::vector<std::size_t> begin_;  // of [call][reads, writes]
};

}  // namespace memo::libtorch
