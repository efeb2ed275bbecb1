// What the emulated runtime is made of: streams, events, memory. Everything is guarded by one mutex, but for the bytes.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <tl/expected.hpp>
#include <utility>

#include "tests/cuda/emulated/runtime/emulated.h"

namespace memo::cuda::emulated {

using Steady = std::chrono::steady_clock;

struct StreamState;

// What a stream was given up to some point: its operations up to number `number`.
struct Point {
  std::shared_ptr<StreamState> stream;  // null: nothing
  std::int64_t number = 0;
  [[nodiscard]] bool reached() const;
};

struct Operation {
  std::int64_t number = 0;  // from 1
  std::function<void()> run;
  Point after;  // a wait, if it has a stream
};

struct StreamState {
  Pace pace = Pace::prompt;
  std::mt19937_64 random;
  std::chrono::microseconds most_delay{0};
  std::deque<Operation> queue;
  std::int64_t given = 0, ended = 0;
  std::int64_t demanded = 0;   // the host waits for operations up to this
  std::int64_t last_work = 0;  // of those, the last that is no wait and no event
  bool early_events = false;
  bool stopping = false;
  bool running = false;          // the front of the queue, by whichever thread
  std::condition_variable wake;  // of the thread
  std::thread thread;
};

struct EventState {
  Point point;
  Steady::time_point time;
  bool timed = true;
  std::int64_t recordings = 0;
};

class Machine {
 public:
  void reset(const Settings& settings);
  [[nodiscard]] const Settings& settings() const { return settings_; }

  // Streams. `give` returns when the operation was run or cannot run yet, if the stream is prompt.
  std::shared_ptr<StreamState> make_stream();
  std::shared_ptr<StreamState> null_stream(int device);  // made when it is first used
  void destroy(StreamState& stream);
  void give(const std::shared_ptr<StreamState>& stream, std::function<void()> run, Point after = {});
  void wait_on_host(const Point& point);
  void wait_for(const std::shared_ptr<StreamState>& stream);
  void wait_for_all();
  bool is_idle(const std::shared_ptr<StreamState>& stream);

  // Events.
  void record(const std::shared_ptr<EventState>& event, const std::shared_ptr<StreamState>& stream);
  Point point_of(const EventState& event);
  bool has_ended(const EventState& event);
  tl::expected<double, cudaError_t> elapsed(const EventState& start, const EventState& end);  // seconds

  // Memory. The address of device memory cannot be touched; its bytes lie behind a second mapping, which `bytes` gives.
  void* allocate(std::size_t bytes, int device = 0);  // null: there is not enough
  bool free(void* memory);
  [[nodiscard]] std::int64_t free_bytes(int device = 0);
  int device_of(const void* address);  // -1: of none
  cudaError_t register_host(void* memory, std::size_t bytes);
  bool unregister_host(void* memory);
  std::byte* device_bytes(const void* address, std::size_t bytes);  // null: not all inside one allocation
  bool is_registered(const void* address, std::size_t bytes);

  // Calls.
  cudaError_t enter(const std::string& function);  // counts, and says how it fails, if it does
  bool omitted(const std::string& function, const StreamState* stream);
  void plant(const std::string& function, const StreamState* stream);  // null: any
  void fail(const std::string& function, cudaError_t error, int after);
  void heal();
  void break_down(cudaError_t error, const std::string& why = {});  // sticky, as errors of kernels are
  std::string what_broke();
  std::int64_t calls(const std::string& function);
  void note_wait(const std::string& what);
  std::map<std::string, std::int64_t> waits();
  void set_pace(StreamState& stream, Pace pace);
  void set_early_events(StreamState& stream);

 private:
  struct Allocation {
    std::size_t bytes;
    std::byte* alias;
    int device;
  };
  struct Failure {
    cudaError_t error;
    int after;
  };
  void work(const std::shared_ptr<StreamState>& stream);
  bool any_prompt_to_run() const;
  void run_front(std::unique_lock<std::mutex>& lock, StreamState& stream);
  void push(std::unique_lock<std::mutex>& lock, StreamState& stream, std::function<void()> run, Point after = {});
  void demand(const Point& point);
  void wait(std::unique_lock<std::mutex>& lock, const Point& point);

  Settings settings_;
  std::mutex mutex_;
  std::condition_variable progress_;                // of any stream
  std::set<std::shared_ptr<StreamState>> streams_;  // all, with those of `null_`
  std::map<int, std::shared_ptr<StreamState>> null_;
  int made_streams_ = 0;
  std::map<std::byte*, Allocation> device_;
  std::map<std::byte*, std::size_t> registered_;
  std::map<std::string, std::int64_t> calls_, waits_;
  std::map<std::string, Failure> failures_;
  std::set<std::pair<std::string, const StreamState*>> omitted_;
  cudaError_t broken_ = cudaSuccess;
  std::string why_broken_;
};

// Never destroyed, since threads of streams may still run when the process ends.
Machine& machine();
// Of the calling thread: it runs a function that cudaLaunchHostFunc was given.
bool& in_host_function();
// Of the calling thread: what it does, for the names of waits.
std::string& doing();

}  // namespace memo::cuda::emulated
