// Anchors, and times of events relative to them.
#include "memo/cuda/clock.h"

#include <algorithm>

namespace memo::cuda {

Result<Clock> Clock::start(cudaStream_t stream) {
  Clock clock;
  MEMO_TRY(clock.anchor_, make_event(cudaEventBlockingSync));
  MEMO_CHECKED(check(cudaStreamSynchronize(stream), "wait for the GPU"));
  MEMO_CHECKED(clock.anchor(stream));
  return clock;
}

Status Clock::anchor(cudaStream_t stream) {
  anchor_time_ = now();
  MEMO_CHECKED(check(cudaEventRecord(anchor_.get(), stream), "note the time"));
  return check(cudaEventSynchronize(anchor_.get()), "wait for the GPU");
}

Result<double> Clock::at(cudaEvent_t event, double earliest) {
  float milliseconds = 0;
  MEMO_CHECKED(check(cudaEventElapsedTime(&milliseconds, anchor_.get(), event), "ask when a copy ran"));
  const double after_anchor = 1e-3 * static_cast<double>(milliseconds);
  anchor_time_ = std::max(anchor_time_, earliest - after_anchor);
  return std::min(anchor_time_ + after_anchor, std::max(earliest, now()));
}

}  // namespace memo::cuda
