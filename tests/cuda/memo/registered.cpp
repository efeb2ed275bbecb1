// The emulated GPU in the registry of devices, in the place of one: tensors of models are the host's, those of plans
// are in the emulated device's memory, kernels are the CPU's.
#include "memo/libtorch/memory/device_kind.h"
#include "tests/cuda/memo/emulated_gpu.h"

namespace memo::cuda::emulated {
namespace {

const libtorch::Registered registered({"cuda", c10::DeviceType::CPU, [](libtorch::Stream) { return open_gpu(); },
                                       [](job::DType) { return Status(); }});

}  // namespace
}  // namespace memo::cuda::emulated
