// What reductions on CUDA ask for beside their results: their operand in another type, and, where blocks of threads
// share a result, a buffer for their parts and a counter for each group of blocks.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/native/TensorIterator.h>

#include <optional>
#include <vector>

namespace c10 {
class OperatorHandle;
}

namespace memo::cuda::emulated {

// What is asked for until the kernel has been given to the stream.
struct ReductionMemory {
  std::optional<at::TensorIterator> operands;
  std::vector<c10::DataPtr> scratch;
};
// Of an operator that is no reduction: nothing.
ReductionMemory memory_of_reduction(const c10::OperatorHandle& op, const std::vector<c10::IValue>& arguments,
                                    const std::vector<at::Tensor>& results);

}  // namespace memo::cuda::emulated
