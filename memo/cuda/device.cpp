// Opens the GPU and its streams, with errors that say what to do.
#include "memo/cuda/device.h"

#include <fmt/format.h>

#include "memo/base/text.h"

namespace memo::cuda {

Current::Current(int index) : index_(index), before_(index) {
  if (cudaGetDevice(&before_) == cudaSuccess && before_ != index_) (void)cudaSetDevice(index_);
}
Current::~Current() {
  if (before_ != index_) (void)cudaSetDevice(before_);
}

Result<Device> Device::open(Compute compute, int index) {
  int count = 0;
  MEMO_CHECKED(check(cudaGetDeviceCount(&count), "use a GPU"));
  if (index < 0 || index >= count)
    return bad_input(fmt::format("CUDA: there is no GPU {}; {} are visible, from 0", index, count));
  const Current there(index);
  MEMO_CHECKED(check(cudaSetDevice(index), "use the GPU"));
  cudaDeviceProp properties{};
  MEMO_CHECKED(check(cudaGetDeviceProperties(&properties, index), "ask what the GPU is"));
  Device device;
  device.index_ = index;
  device.name_ = static_cast<const char*>(properties.name);
  device.capability_ = 10 * properties.major + properties.minor;
  if (device.name_.find(" MIG ") != std::string::npos)
    return bad_input(fmt::format(
        "CUDA: {} is a slice of a GPU, whose copies others slow at will, so no plan holds; choose a whole GPU, or turn "
        "MIG off (nvidia-smi -mig 0)",
        device.name_));
  for (Stream* stream : {&device.compute_, &device.out_, &device.in_}) {
    if (stream == &device.compute_ && compute == Compute::legacy_default_stream) continue;
    cudaStream_t made = nullptr;
    MEMO_CHECKED(check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "make a stream"));
    stream->reset(made);
  }
  // Older drivers return an error for this attribute.
  if (cudaDeviceGetAttribute(&device.host_node_, cudaDevAttrHostNumaId, index) != cudaSuccess) {
    (void)cudaGetLastError();
    device.host_node_ = -1;
  }
  return device;
}

Result<DeviceMemory> Device::allocate(Bytes bytes) {
  void* memory = nullptr;
  const cudaError_t result = cudaMalloc(&memory, static_cast<std::size_t>(bytes.value()));
  if (result != cudaErrorMemoryAllocation) {
    MEMO_CHECKED(check(result, "allocate memory of the GPU"));
    return DeviceMemory(static_cast<std::byte*>(memory));
  }
  (void)cudaGetLastError();
  MEMO_TRY(const Driver now, ask_driver());
  return run_time_error(fmt::format(
      "CUDA: cannot allocate {} of the GPU's memory in one piece: {} of {} are free; end other processes on the GPU "
      "(nvidia-smi shows them), or lower [memory] device_limit",
      format_bytes(bytes), format_bytes(now.free), format_bytes(now.total)));
}

}  // namespace memo::cuda
