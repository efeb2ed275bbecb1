// Whose a thread's time is: the emulation's or the program's. The program's part is what the host would also do in
// front of a GPU (benchmarks/overhead.py).
#pragma once

#include <cstdint>

namespace memo::cuda::emulated {

// While it lives, the calling thread's time is the emulation's: calls of the runtime, with the work of prompt streams
// that they run, and operators that stand for CUDA's.
class Share {
 public:
  Share() : Share(true) {}
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;
  ~Share();

 protected:
  explicit Share(bool emulation);

 private:
  bool outer_;
};

// While it lives, the calling thread's time is the program's again, as in its allocator, which operators call.
class OwnWork : Share {
 public:
  OwnWork() : Share(false) {}
};

// Kernels that threads of the host have launched so far, and the processor time of those threads without the
// emulation's share, in seconds. Threads that launch nothing, such as a watchdog's, are not in it.
struct HostWork {
  std::int64_t launches = 0;
  double seconds = 0;
};
HostWork host_work();
void count_launch();

}  // namespace memo::cuda::emulated
