// A pool of events that are used again, and the moments at which a stream reaches them.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "memo/cuda/clock.h"

namespace memo::cuda {

// Events with times. A new one is made only when more are in use than ever before.
class EventPool {
 public:
  static Result<EventPool> of(int count);
  Result<Event> take();
  void put(Event event) { free_.push_back(std::move(event)); }

 private:
  std::vector<Event> free_;
};

// Whether the event has ended; does not wait for it.
Result<bool> has_ended(cudaEvent_t event);

// The moments at which a stream had ended all earlier work, one for each `note`.
class Moments {
 public:
  static Result<Moments> of(cudaStream_t stream);

  void note(Clock& clock);
  // Reads the times of the moments that have passed.
  void gather(Clock& clock);
  // Reads the times of all moments; the stream must have ended its work. Returns the first failure since the last
  // finish.
  Status finish(Clock& clock);
  std::vector<double> take() { return std::exchange(times_, {}); }

 private:
  Moments(cudaStream_t stream, EventPool events) : stream_(stream), events_(std::move(events)) {}
  Status note_one(double now);
  Status gather_some(Clock& clock);

  cudaStream_t stream_;
  EventPool events_;
  struct Moment {
    Event event;
    double noted = 0;  // host time of the note, which the moment cannot precede
  };
  std::deque<Moment> pending_;
  std::vector<double> times_;
  Status status_;
};

}  // namespace memo::cuda
