// The CUDA runtime as values: handles that free themselves, and results that say in one line what failed and what to
// do.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string_view>

#include "memo/base/result.h"

namespace memo::cuda {

struct Destroy {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Stream = std::unique_ptr<CUstream_st, Destroy>;
using Event = std::unique_ptr<CUevent_st, Destroy>;

// A run-time error "cannot `doing`: ..." unless `result` is success. Clears the runtime's own record of the error, so
// that other users of the runtime do not take it for theirs.
Status check(cudaError_t result, std::string_view doing);

// `flags`: those of cudaEventCreateWithFlags.
Result<Event> make_event(unsigned flags);

}  // namespace memo::cuda
