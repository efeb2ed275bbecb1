// A clock of each thread that changes hands between the program and the emulation.
#include "tests/cuda/emulated/runtime/share.h"

#include <atomic>
#include <ctime>
#include <utility>

namespace memo::cuda::emulated {
namespace {

std::atomic<std::int64_t> launches{0}, own_nanoseconds{0};

std::int64_t thread_nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct OfThread {
  bool emulation = false, launches = false;
  std::int64_t since = thread_nanoseconds();
};

OfThread& of_thread() {
  thread_local OfThread the;
  return the;
}

// Says whose the time is from now on; returns whose it was.
bool hand_over(bool emulation) {
  OfThread& the = of_thread();
  if (the.emulation == emulation) return emulation;
  const std::int64_t now = thread_nanoseconds();
  if (!the.emulation && the.launches) own_nanoseconds += now - the.since;
  the.since = now;
  return std::exchange(the.emulation, emulation);
}

}  // namespace

Share::Share(bool emulation) : outer_(hand_over(emulation)) {}
Share::~Share() { hand_over(outer_); }

HostWork host_work() { return {launches, static_cast<double>(own_nanoseconds) * 1e-9}; }

void count_launch() {
  ++launches;
  of_thread().launches = true;
}

}  // namespace memo::cuda::emulated

// For a process of Python (benchmarks/host_work.py).
extern "C" void memo_emulated_host_work(std::int64_t* launches, double* seconds) {
  const auto work = memo::cuda::emulated::host_work();
  *launches = work.launches;
  *seconds = work.seconds;
}
