// The Python package on the emulated runtime: tensors of models are the host's, those of plans the emulated device's.
#include "memo/python/device.h"
#include "tests/cuda/memo/emulated_gpu.h"

namespace memo::plugin {

Result<std::unique_ptr<edge::Device>> open_device(at::Device) { return cuda::emulated::open_gpu(); }

}  // namespace memo::plugin
