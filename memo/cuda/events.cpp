// Takes events from the pool, and turns passed ones into times.
#include "memo/cuda/events.h"

#include <algorithm>

namespace memo::cuda {

Result<EventPool> EventPool::of(int count) {
  EventPool pool;
  for (int i = 0; i < count; ++i) {
    MEMO_TRY(Event event, make_event(cudaEventDefault));
    pool.put(std::move(event));
  }
  return pool;
}

Result<Event> EventPool::take() {
  if (free_.empty()) return make_event(cudaEventDefault);
  Event event = std::move(free_.back());
  free_.pop_back();
  return event;
}

Result<bool> has_ended(cudaEvent_t event) {
  const cudaError_t result = cudaEventQuery(event);
  if (result != cudaErrorNotReady) {
    MEMO_CHECKED(check(result, "ask whether the GPU has come to a point"));
    return true;
  }
  (void)cudaGetLastError();
  return false;
}

Result<Moments> Moments::of(cudaStream_t stream) {
  MEMO_TRY(EventPool events, EventPool::of(256));
  return Moments(stream, std::move(events));
}

void Moments::note(Clock& clock) {
  if (status_) status_ = note_one(clock.now());
}

void Moments::gather(Clock& clock) {
  if (status_) status_ = gather_some(clock);
}

Status Moments::finish(Clock& clock) {
  gather(clock);
  pending_.clear();  // events of a failed stream
  return std::exchange(status_, {});
}

Status Moments::note_one(double now) {
  MEMO_TRY(Event event, events_.take());
  MEMO_CHECKED(check(cudaEventRecord(event.get(), stream_), "note the time"));
  pending_.push_back({std::move(event), now});
  return {};
}

Status Moments::gather_some(Clock& clock) {
  while (!pending_.empty()) {
    Moment& oldest = pending_.front();
    MEMO_TRY(const bool ended, has_ended(oldest.event.get()));
    if (!ended) break;
    const double earliest = times_.empty() ? oldest.noted : std::max(oldest.noted, times_.back());
    MEMO_TRY(const double time, clock.at(oldest.event.get(), earliest));
    times_.push_back(time);
    events_.put(std::move(oldest.event));
    pending_.pop_front();
  }
  return {};
}

}  // namespace memo::cuda
