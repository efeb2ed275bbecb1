// The functions of the runtime, on the emulated machine.
#include <cuda_runtime_api.h>

#include <cstring>
#include <exception>
#include <utility>

#include "tests/cuda/emulated/runtime/machine.h"
#include "tests/cuda/emulated/runtime/share.h"

using namespace memo::cuda::emulated;

// The handles that CUDA's headers declare.
struct CUstream_st {
  std::shared_ptr<StreamState> state;
};
struct CUevent_st {
  std::shared_ptr<EventState> state;
};

namespace {

thread_local cudaError_t last_error = cudaSuccess;
thread_local int current_device = 0;

// Null is the legacy default stream. The streams of all programs here are made with cudaStreamNonBlocking, so it is in
// no order with them.
std::shared_ptr<StreamState> state_of(cudaStream_t stream) {
  return stream == nullptr ? machine().null_stream(current_device) : stream->state;
}

cudaError_t note(cudaError_t result) {
  if (result != cudaSuccess) last_error = result;
  return result;
}

}  // namespace

#define ENTER()                                                                                                \
  const Share share;                                                                                           \
  if (const cudaError_t entered = machine().enter(static_cast<const char*>(__func__)); entered != cudaSuccess) \
  return note(entered)

namespace memo::cuda::emulated {

void reset(const Settings& settings) {
  last_error = cudaSuccess;
  machine().reset(settings);
}
void set_pace(cudaStream_t stream, Pace pace) { machine().set_pace(*state_of(stream), pace); }
void omit(const std::string& function, cudaStream_t stream) { machine().plant(function, state_of(stream).get()); }
void omit(const std::string& function) { machine().plant(function, nullptr); }
void record_early(cudaStream_t stream) { machine().set_early_events(*state_of(stream)); }
void fail(const std::string& function, cudaError_t error, int after) { machine().fail(function, error, after); }
void heal() { machine().heal(); }
std::int64_t calls(const std::string& function) { return machine().calls(function); }
std::map<std::string, std::int64_t> host_waits() { return machine().waits(); }
std::byte* bytes_of(const void* address) { return machine().device_bytes(address, 0); }
int device_of(const void* address) { return machine().device_of(address); }
bool is_registered(const void* host_memory) { return machine().is_registered(host_memory, 1); }
std::string what_broke() { return machine().what_broke(); }
Doing::Doing(std::string name) : outer_(std::exchange(doing(), std::move(name))) {}
Doing::~Doing() { doing() = std::move(outer_); }
void launch(cudaStream_t stream, std::function<void()> kernel) {
  const Share share;
  count_launch();
  machine().give(state_of(stream), [kernel = std::move(kernel)] {
    try {
      kernel();
    } catch (const std::exception& error) {
      machine().break_down(cudaErrorLaunchFailure, error.what());
    }
  });
}

}  // namespace memo::cuda::emulated

// Devices and errors.

cudaError_t cudaGetDeviceCount(int* count) {
  ENTER();
  *count = machine().settings().devices;
  return *count > 0 ? cudaSuccess : note(cudaErrorNoDevice);
}

cudaError_t cudaDriverGetVersion(int* version) {
  ENTER();
  *version = machine().settings().driver;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  ENTER();
  if (device < 0 || device >= machine().settings().devices) return note(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  ENTER();
  machine().note_wait(__func__);
  machine().wait_for_all();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  ENTER();
  if (attribute != cudaDevAttrHostNumaId) return note(cudaErrorInvalidValue);
  *value = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  ENTER();
  *properties = {};
  machine().settings().name.copy(static_cast<char*>(properties->name), sizeof properties->name - 1);
  properties->major = machine().settings().capability / 10;
  properties->minor = machine().settings().capability % 10;
  properties->multiProcessorCount = machine().settings().multiprocessors;
  properties->maxThreadsPerMultiProcessor = 2048;  // of every data-centre GPU since Pascal
  properties->totalGlobalMem = static_cast<std::size_t>(machine().settings().device_bytes);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define NAME(error) \
  case error:       \
    return #error
    NAME(cudaSuccess);
    NAME(cudaErrorInvalidValue);
    NAME(cudaErrorMemoryAllocation);
    NAME(cudaErrorInsufficientDriver);
    NAME(cudaErrorDevicesUnavailable);
    NAME(cudaErrorNoDevice);
    NAME(cudaErrorECCUncorrectable);
    NAME(cudaErrorInvalidDevice);
    NAME(cudaErrorInvalidResourceHandle);
    NAME(cudaErrorNotReady);
    NAME(cudaErrorIllegalAddress);
    NAME(cudaErrorHostMemoryAlreadyRegistered);
    NAME(cudaErrorHostMemoryNotRegistered);
    NAME(cudaErrorLaunchFailure);
    NAME(cudaErrorNotPermitted);
#undef NAME
    default:
      return "another error";
  }
}

const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

// Streams.

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  ENTER();
  *stream = new CUstream_st{machine().make_stream()};
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  machine().destroy(*stream->state);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ENTER();
  machine().note_wait(__func__);
  machine().wait_for(state_of(stream));
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  ENTER();
  if (machine().omitted(__func__, state_of(stream).get())) return cudaSuccess;
  machine().give(state_of(stream), {}, machine().point_of(*event->state));
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  ENTER();
  machine().give(state_of(stream), [function, data] {
    in_host_function() = true;
    function(data);
    in_host_function() = false;
  });
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  ENTER();
  return machine().is_idle(state_of(stream)) ? cudaSuccess : note(cudaErrorNotReady);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  ENTER();
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) {
  ENTER();
  *priority = 0;
  return cudaSuccess;
}

// Events.

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  ENTER();
  *event = new CUevent_st{std::make_shared<EventState>()};
  (*event)->state->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  ENTER();
  machine().record(event->state, state_of(stream));
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  ENTER();
  return machine().has_ended(*event->state) ? cudaSuccess : note(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ENTER();
  const Point point = machine().point_of(*event->state);
  machine().note_wait(__func__);
  if (!machine().omitted(__func__, point.stream.get())) machine().wait_on_host(point);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  ENTER();
  const auto seconds = machine().elapsed(*start->state, *end->state);
  if (!seconds) return note(seconds.error());
  *milliseconds = static_cast<float>(*seconds * 1e3);
  return cudaSuccess;
}

// Memory.

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  ENTER();
  *memory = machine().allocate(bytes, current_device);
  return *memory != nullptr ? cudaSuccess : note(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const Share share;
  machine().note_wait(__func__);
  return machine().free(memory) ? cudaSuccess : note(cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  ENTER();
  *free = static_cast<std::size_t>(machine().free_bytes(current_device));
  *total = static_cast<std::size_t>(machine().settings().device_bytes);
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned) {
  ENTER();
  return note(machine().register_host(memory, bytes));
}

cudaError_t cudaHostUnregister(void* memory) {
  return machine().unregister_host(memory) ? cudaSuccess : note(cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  ENTER();
  const bool to_host = kind == cudaMemcpyDeviceToHost, from_host = kind == cudaMemcpyHostToDevice;
  const auto bytes_at = [=](const void* address, bool on_host) -> std::byte* {
    if (!on_host) return machine().device_bytes(address, bytes);
    auto* host = static_cast<std::byte*>(const_cast<void*>(address));
    return machine().is_registered(address, bytes) ? host : nullptr;
  };
  if (bytes_at(to, to_host) == nullptr || bytes_at(from, from_host) == nullptr) return note(cudaErrorInvalidValue);
  machine().give(state_of(stream), [=] {
    std::byte* const target = bytes_at(to, to_host);
    const std::byte* const source = bytes_at(from, from_host);
    if (target == nullptr || source == nullptr)
      machine().break_down(cudaErrorIllegalAddress);  // given back since the copy was enqueued
    else
      std::memcpy(target, source, bytes);
  });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  ENTER();
  std::byte* const target = machine().device_bytes(memory, bytes);
  if (target == nullptr) return note(cudaErrorInvalidValue);
  machine().give(state_of(stream), [=] { std::memset(target, value, bytes); });
  return cudaSuccess;
}
