// The CUDA runtime as values: handles that free themselves, and results that say in one line what failed and what to
// do.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string_view>

#include "memo/base/result.h"
#include "memo/base/units.h"

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

// What the driver says: versions as 1000 * major + 10 * minor (the driver's: the newest CUDA that it runs), the GPUs
// that this process may use, and the memory of the current one.
struct Driver {
  int version = 0, runtime = 0, visible = 0;
  Bytes free, total;
};
Result<Driver> ask_driver();

// `flags`: those of cudaEventCreateWithFlags.
Result<Event> make_event(unsigned flags);

}  // namespace memo::cuda
