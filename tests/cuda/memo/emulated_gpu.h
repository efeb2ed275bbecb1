// A session's device on the emulated runtime: memory, streams and copies are those of the CUDA backend, kernels are the
// CPU's.
#pragma once

#include <memory>

#include "memo/libtorch/memory/device.h"

namespace memo::cuda::emulated {

// Of one opened before, nothing may be left. MEMO_EMULATED_PACE says when streams run what they are given: prompt, late
// or random.
Result<std::unique_ptr<libtorch::Device>> open_gpu();

}  // namespace memo::cuda::emulated
