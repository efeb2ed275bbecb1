// A CUDA runtime without a GPU: replaces libcudart at link time, with the functions that memo/cuda and its tests call
// (api.cpp). Streams are threads, device memory faults when the host touches it, and a test says how late each stream
// runs and which calls go wrong. The runtime is global, as CUDA's is.
//
// Semantics follow the runtime's reference (docs.nvidia.com/cuda/cuda-runtime-api): an event holds what its stream was
// given when it was recorded, a wait takes the event as it is when the wait is called, a stream that waits for an event
// that was never recorded does not wait. Stricter than CUDA: a copy from or to memory that is not registered is refused
// (CUDA would silently make it wait for the host).
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>

namespace memo::cuda::emulated {

// When a stream runs what it was given, as soon as its waits allow:
//   prompt  before the call that gives it returns
//   late    not before the host waits for it, or for something that waits for it: as late as any GPU could be
//   random  one in four after a random time, the others at once
// prompt and late leave nothing to chance but what the threads of the host do at once.
enum class Pace { prompt, late, random };

struct Settings {
  int devices = 1;
  std::string name = "an emulated GPU";
  int capability = 90, multiprocessors = 132;  // those of an H200
  int driver = CUDART_VERSION;
  std::int64_t device_bytes = std::int64_t{1} << 30;  // of each device
  std::int64_t taken_bytes = 0;                       // of those, by other processes
  std::int64_t lockable_bytes = std::numeric_limits<std::int64_t>::max();
  Pace pace = Pace::prompt;  // of streams made from now on
  std::uint64_t seed = 1;    // of random paces
  std::chrono::microseconds most_delay{200};
};

// The machine from now on. Of the one before, nothing may be left.
void reset(const Settings& settings = {});

void set_pace(cudaStream_t stream, Pace pace);

// Planted bugs: calls of `function` about `stream` do nothing and report success (of cudaEventSynchronize: for events
// last recorded there), or those about any stream ...
void omit(const std::string& function, cudaStream_t stream);
void omit(const std::string& function);
// ... or events recorded on `stream` leave out the last copy or function that it was given.
void record_early(cudaStream_t stream);

// Calls of `function` fail from now on, after `after` more that do not. "": of any.
void fail(const std::string& function, cudaError_t error, int after = 0);
void heal();

// Gives a stream (null: the current device's legacy default stream) work of the device, which touches memory by
// `bytes_of`. An exception breaks the device down, as a kernel that fails does.
void launch(cudaStream_t stream, std::function<void()> kernel);
// Where the host may touch the byte at an address of the device's memory; null: it is not the device's.
std::byte* bytes_of(const void* address);
int device_of(const void* address);  // -1: of none
bool is_registered(const void* host_memory);
// What the kernel said that broke the device down, or "".
std::string what_broke();

// How often `function` was called since the last reset.
std::int64_t calls(const std::string& function);
// How often the host waited for a device since the last reset, by "what it was doing: function".
std::map<std::string, std::int64_t> host_waits();
// While it lives, the calling thread does what `name` says.
class Doing {
 public:
  explicit Doing(std::string name);
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;
  ~Doing();

 private:
  std::string outer_;
};

}  // namespace memo::cuda::emulated
