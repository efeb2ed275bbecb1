// A plan's addresses in the form that calls need: the planned requests of each call for the allocator, and the tensor
// and address of each operand that is not persistent.
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
  std::int64_t tokens = 0;  // number of rows: the block's tokens, or the whole sequence's
  plan::ClassIndex cls;
  int group = 0;
};

class PlannedMemory {
 public:
  // `varies`: what core attention asks for besides results depends on documents; a plan has the most of it.
  PlannedMemory(const plan::Plan& plan, std::byte* arena, bool varies = false);

  [[nodiscard]] std::span<const PlannedOperand> reads(plan::CallIndex call) const { return slice(call, 0); }
  [[nodiscard]] std::span<const PlannedOperand> writes(plan::CallIndex call) const { return slice(call, 1); }
  // Requests in the order of the call's allocations.
  [[nodiscard]] std::vector<PlannedRequest> requests(plan::CallIndex call) const;

 private:
  [[nodiscard]] std::span<const PlannedOperand> slice(plan::CallIndex call, int side) const;
  const plan::Plan& plan_;
  std::byte* arena_;
  bool varies_;
  std::vector<PlannedOperand> operands_;
  std::vector<std::size_t> begin_;  // for each call, where its reads and its writes begin in operands_
};

}  // namespace memo::libtorch
