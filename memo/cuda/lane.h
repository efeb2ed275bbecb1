// One direction of copies: their order, progress and times.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "memo/cuda/clock.h"
#include "memo/cuda/events.h"
#include "memo/cuda/staging.h"
#include "memo/exec/executor.h"

namespace memo::cuda {

class Lane {
 public:
  // `staging` is needed where the GPU does not reach every tier. All arguments must outlive the lane.
  static Result<std::unique_ptr<Lane>> open(const Device& device, plan::Direction direction,
                                            const std::vector<exec::TierStore*>& tiers, Clock& clock,
                                            const StagingSize& staging);

  // As in exec::CopyEngine; copies are numbered from 0.
  std::int64_t start(const exec::CopyRequest& request, int index);
  void submit();
  Status wait(std::int64_t number);
  // Returns when the stream was given all started copies.
  void settle();
  // Call when all work on the stream has ended, or will never end because `streams` failed. Returns the first failure
  // since the last finish.
  Status finish(const Status& streams);
  std::vector<exec::Span> take_spans();

 private:
  struct Copy {
    int index = 0;
    Bytes bytes;
  };
  // held: not yet submitted; staged: given to the staging thread; given: given to the stream.
  enum class State { held, staged, given, ended, failed };
  struct Transfer {  // adjacent copies that move as one
    Transfer(const exec::CopyRequest& of, std::size_t copy, double now) : request(of), first(copy), start_time(now) {}
    exec::CopyRequest request;
    std::size_t first = 0;  // index of its first copy in copies_
    double start_time = 0;  // not before this: the start call, then the thread's begin or `begin`
    double end_time = 0;
    State state = State::held;
    bool waited = false;      // compute already waits for it
    Event after, begin, end;  // used: after (staged out), after and end (staged in), begin and end (not staged)
  };

  Lane(const Device& device, plan::Direction direction, const std::vector<exec::TierStore*>& tiers, Clock& clock,
       Event given, EventPool events);
  Status submit_one(std::size_t number, bool& ordered);
  void staged(std::size_t number, double start, double end, Status status);
  void gather(const Status& streams);
  Status time(Transfer& t);
  void note_spans(std::size_t number);
  void fail(std::size_t number, const Error& error);
  [[nodiscard]] std::size_t end_of(std::size_t number) const;  // index behind its last copy

  const cudaStream_t compute_, stream_;
  const plan::Direction direction_;
  const std::vector<exec::TierStore*>& tiers_;
  Clock& clock_;
  const Event given_;  // reached by compute before the last submitted copies

  std::mutex mutex_;  // guards all members below
  std::condition_variable progress_;
  std::int64_t base_ = 0;     // the number of copies_[0]
  std::vector<Copy> copies_;  // started since the last drain
  std::vector<Transfer> transfers_;
  std::size_t submitted_ = 0, gathered_ = 0;  // counts of transfers_
  std::size_t staged_ = 0;                    // number of transfers in State::staged
  EventPool events_;
  std::map<std::int64_t, Error> failures_;  // by number; kept, so that every wait for a failed copy fails
  std::vector<exec::Span> spans_;
  double last_end_ = 0;               // end of the last span
  std::unique_ptr<Staging> staging_;  // last, since its thread uses the other members
};

}  // namespace memo::cuda
