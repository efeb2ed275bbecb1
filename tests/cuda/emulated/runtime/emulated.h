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
#include <cstdint>
#include <limits>
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
  std::int64_t device_bytes = std::int64_t{1} << 30;
  std::int64_t lockable_bytes = std::numeric_limits<std::int64_t>::max();
  Pace pace = Pace::prompt;  // of streams made from now on
  std::uint64_t seed = 1;    // of random paces
  std::chrono::microseconds most_delay{200};
};

// The machine from now on. Of the one before, nothing may be left.
void reset(const Settings& settings = {});

void set_pace(cudaStream_t stream, Pace pace);

// Planted bugs: calls of `function` about `stream` do nothing and report success (of cudaEventSynchronize: for events
// last recorded there) ...
void omit(const std::string& function, cudaStream_t stream);
// ... or events recorded on `stream` leave out the last copy or function that it was given.
void record_early(cudaStream_t stream);

// Calls of `function` fail from now on, after `after` more that do not. "": of any.
void fail(const std::string& function, cudaError_t error, int after = 0);
void heal();

// While it lives the host may touch the device's memory, as a kernel on `stream` would: behind all that the stream was
// given. They nest; one thread at a time.
class Kernel {
 public:
  explicit Kernel(cudaStream_t stream);
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  ~Kernel();
};

// How often `function` was called since the last reset.
std::int64_t calls(const std::string& function);

}  // namespace memo::cuda::emulated
