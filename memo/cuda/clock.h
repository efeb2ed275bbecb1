// Times of events on the host's clock, relative to an anchor: an event whose host time is known.
#pragma once

#include <chrono>

#include "memo/cuda/runtime.h"

namespace memo::cuda {

class Clock {
 public:
  // Waits for all work that `stream` was given.
  static Result<Clock> start(cudaStream_t stream);

  // Seconds since the clock was made.
  [[nodiscard]] double now() const { return std::chrono::duration<double>(Steady::now() - epoch_).count(); }
  // Makes a new anchor, on a stream that has no work. The runtime tells times between events as floats of milliseconds,
  // so an anchor is precise for some minutes.
  Status anchor(cudaStream_t stream);
  // When an event that has ended was reached. The host knows that this was not before `earliest`; if the anchor gives
  // an earlier time, the anchor is corrected.
  Result<double> at(cudaEvent_t event, double earliest);

 private:
  using Steady = std::chrono::steady_clock;
  Steady::time_point epoch_ = Steady::now();
  Event anchor_;
  double anchor_time_ = 0;
};

}  // namespace memo::cuda
