// One direction of copies: which were started, how far they are, and when they ran.
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
  // `staging`: null when the GPU reaches every tier. All must outlive the lane.
  static Result<std::unique_ptr<Lane>> open(const Device& device, plan::Direction direction,
                                            const std::vector<exec::TierStore*>& tiers, Clock& clock,
                                            const StagingSize& staging);

  // As of CopyEngine; copies are numbered from 0.
  std::int64_t start(const exec::CopyRequest& request, int index);
  void submit();
  Status wait(std::int64_t number);
  // Returns when the stream has been given all that was started.
  void settle();
  // Everything on the stream has ended, or never will where `streams` failed. Returns the first failure since the last
  // finish.
  Status finish(const Status& streams);
  std::vector<exec::Span> take_spans();

 private:
  struct Copy {
    int index = 0;
    Bytes bytes;
  };
  // held: not yet submitted; staged: with the thread; given: to the stream.
  enum class State { held, staged, given, ended, failed };
  struct Transfer {  // neighbouring copies, moved at once
    Transfer(const exec::CopyRequest& of, std::size_t copy, double now) : request(of), first(copy), start_time(now) {}
    exec::CopyRequest request;
    std::size_t first = 0;  // of its copies, in copies_
    double start_time = 0;  // the earliest known: when it was started, then when the thread took it, or `begin`
    double end_time = 0;
    State state = State::held;
    bool waited = false;      // compute waits for it already
    Event after, begin, end;  // staged out: after; staged in: after, end; otherwise begin, end
  };

  Lane(const Device& device, plan::Direction direction, const std::vector<exec::TierStore*>& tiers, Clock& clock,
       Event given, EventPool events);
  Status submit_one(std::size_t number, bool& ordered);
  void staged(std::size_t number, double start, double end, Status status);
  void gather(const Status& streams);
  Status time(Transfer& t);
  void note_spans(std::size_t number);
  void fail(std::size_t number, const Error& error);
  [[nodiscard]] std::size_t end_of(std::size_t number) const;  // of its copies

  const cudaStream_t compute_, stream_;
  const plan::Direction direction_;
  const std::vector<exec::TierStore*>& tiers_;
  Clock& clock_;
  const Event given_;  // what compute was given when copies were submitted last

  std::mutex mutex_;  // guards all below
  std::condition_variable progress_;
  std::int64_t base_ = 0;     // number of copies_[0]
  std::vector<Copy> copies_;  // started since the last drain
  std::vector<Transfer> transfers_;
  std::size_t submitted_ = 0, gathered_ = 0;  // of transfers_
  std::size_t staged_ = 0;                    // how many are
  EventPool events_;
  std::map<std::int64_t, Error> failures_;  // by number; kept, so that a copy fails however often it is waited for
  std::vector<exec::Span> spans_;
  double last_end_ = 0;               // of the spans
  std::unique_ptr<Staging> staging_;  // last: its thread uses the rest
};

}  // namespace memo::cuda
