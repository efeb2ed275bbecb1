// Devices that layers run on. What the package is linked with decides which there are: cpu_only, or cuda.
#pragma once

#include "memo/torch/device.h"

namespace memo::plugin {

// For tensors at `place`. Calls on a GPU run on PyTorch's default stream, in order with what the rest of the model
// does.
Result<std::unique_ptr<edge::Device>> open_device(at::Device place);

}  // namespace memo::plugin
