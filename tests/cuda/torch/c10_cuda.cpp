// What libc10_cuda exports: devices, streams, the check of errors, and LibTorch's own guard, on the emulated runtime.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/cuda/impl/CUDAGuardImpl.h>

#include "tests/cuda/torch/device.h"
#include "tests/cuda/torch/state.h"

namespace c10::cuda {
namespace {

using memo::cuda::emulated::current_streams;

CUDAStream stream_of(StreamId id, DeviceIndex index) {
  return CUDAStream(Stream(Stream::UNSAFE, Device(kCUDA, index < 0 ? current_device() : index), id));
}

}  // namespace

DeviceIndex device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) (void)cudaGetLastError();
  return static_cast<DeviceIndex>(count);
}
DeviceIndex device_count_ensure_non_zero() {
  TORCH_CHECK(device_count() > 0, "no GPU is visible");
  return device_count();
}
DeviceIndex current_device() {
  DeviceIndex device = 0;
  C10_CUDA_CHECK(GetDevice(&device));
  return device;
}
void set_device(DeviceIndex device, const bool force) { C10_CUDA_CHECK(SetDevice(device, force)); }
cudaError_t GetDeviceCount(int* count) { return cudaGetDeviceCount(count); }
cudaError_t GetDevice(DeviceIndex* device) {
  int current = 0;
  const cudaError_t result = cudaGetDevice(&current);
  *device = static_cast<DeviceIndex>(current);
  return result;
}
cudaError_t SetDevice(DeviceIndex device, const bool) { return cudaSetDevice(device); }
cudaError_t MaybeSetDevice(DeviceIndex device) { return cudaSetDevice(device); }
DeviceIndex ExchangeDevice(DeviceIndex device) {
  const DeviceIndex before = current_device();
  if (before != device) set_device(device);
  return before;
}
DeviceIndex MaybeExchangeDevice(DeviceIndex device) { return ExchangeDevice(device); }
void device_synchronize() { C10_CUDA_CHECK(cudaDeviceSynchronize()); }
void warn_or_error_on_sync() {}
bool hasPrimaryContext(DeviceIndex) { return true; }

CUDAStream getStreamFromExternal(cudaStream_t stream, DeviceIndex index) {
  return stream_of(reinterpret_cast<StreamId>(stream), index);
}
CUDAStream getDefaultCUDAStream(DeviceIndex index) { return stream_of(0, index); }
CUDAStream getCurrentCUDAStream(DeviceIndex index) {
  if (index < 0) index = current_device();
  return stream_of(current_streams()[index], index);
}
void setCurrentCUDAStream(CUDAStream stream) { current_streams()[stream.device_index()] = stream.id(); }
CUDAStream getStreamFromPool(const int, DeviceIndex index) {
  if (index < 0) index = current_device();
  return stream_of(memo::cuda::emulated::pool_stream(index), index);
}
CUDAStream getStreamFromPool(const bool, DeviceIndex index) { return getStreamFromPool(0, index); }
cudaStream_t CUDAStream::stream() const { return reinterpret_cast<cudaStream_t>(stream_.id()); }
bool CUDAStream::query() const {
  const memo::cuda::emulated::Current there(stream_.device());
  const cudaError_t result = cudaStreamQuery(stream());
  if (result != cudaErrorNotReady) C10_CUDA_CHECK(result);
  (void)cudaGetLastError();
  return result == cudaSuccess;
}
void CUDAStream::synchronize() const {
  const memo::cuda::emulated::Current there(stream_.device());
  C10_CUDA_CHECK(cudaStreamSynchronize(stream()));
}

void c10_cuda_check_implementation(const int32_t error, const char* file, const char* function, const uint32_t line,
                                   const bool) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  TORCH_CHECK(false, "CUDA error: ", cudaGetErrorName(static_cast<cudaError_t>(error)), " in ", function, " (", file,
              ":", line, ") ", memo::cuda::emulated::what_broke());
}

namespace CUDACachingAllocator {
std::atomic<CUDAAllocator*> allocator;
}
namespace impl {
C10_REGISTER_GUARD_IMPL(CUDA, CUDAGuardImpl)
}

}  // namespace c10::cuda
