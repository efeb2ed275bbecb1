// Merges, submits and times the copies of one direction.
#include "memo/cuda/lane.h"

#include <algorithm>
#include <utility>

#include "memo/base/check.h"

namespace memo::cuda {
namespace {

using exec::CopyRequest;

// Longer transfers are no faster, and delay whoever waits for their first part.
constexpr Bytes most_merged(std::int64_t{8} << 20);

bool neighbours(const CopyRequest& a, const CopyRequest& b) {
  return a.tier == b.tier && a.device + a.bytes.value() == b.device && a.tier_offset + a.bytes == b.tier_offset;
}

}  // namespace

Result<std::unique_ptr<Lane>> Lane::open(const Device& device, plan::Direction direction,
                                         const std::vector<exec::TierStore*>& tiers, Clock& clock,
                                         const StagingSize& size) {
  MEMO_TRY(Event given, make_event(cudaEventDisableTiming));
  MEMO_TRY(EventPool events, EventPool::of(256));
  std::unique_ptr<Lane> lane(new Lane(device, direction, tiers, clock, std::move(given), std::move(events)));
  const auto reached = [](const exec::TierStore* tier) { return tier == nullptr || tier->pinned(0, 0) != nullptr; };
  if (!std::ranges::all_of(tiers, reached)) {
    MEMO_TRY(lane->staging_, Staging::open(
                                 device, direction, size, [&clock] { return clock.now(); },
                                 [lane = lane.get()](std::int64_t number, double start, double end, Status status) {
                                   lane->staged(static_cast<std::size_t>(number), start, end, std::move(status));
                                 }));
  }
  return lane;
}

Lane::Lane(const Device& device, plan::Direction direction, const std::vector<exec::TierStore*>& tiers, Clock& clock,
           Event given, EventPool events)
    : compute_(device.compute()),
      stream_(direction == plan::Direction::out ? device.out() : device.in()),
      direction_(direction),
      tiers_(tiers),
      clock_(clock),
      given_(std::move(given)),
      events_(std::move(events)) {}

std::int64_t Lane::start(const CopyRequest& request, int index) {
  const std::lock_guard lock(mutex_);
  CopyRequest* before = submitted_ < transfers_.size() ? &transfers_.back().request : nullptr;
  if (before != nullptr && neighbours(*before, request) && before->bytes + request.bytes <= most_merged)
    before->bytes += request.bytes;
  else
    transfers_.emplace_back(request, copies_.size(), clock_.now());
  copies_.push_back({index, request.bytes});
  return base_ + static_cast<std::int64_t>(copies_.size()) - 1;
}

void Lane::submit() {
  const std::lock_guard lock(mutex_);
  if (submitted_ == transfers_.size()) return;
  gather({});
  for (bool ordered = false; submitted_ < transfers_.size(); ++submitted_)
    if (const Status status = submit_one(submitted_, ordered); !status) fail(submitted_, status.error());
}

// `ordered`: the stream already waits for all earlier work of compute.
Status Lane::submit_one(std::size_t number, bool& ordered) {
  Transfer& t = transfers_[number];
  const CopyRequest& r = t.request;
  exec::TierStore* tier = tiers_[static_cast<std::size_t>(r.tier)];
  std::byte* const pinned = tier->pinned(r.tier_offset.value(), r.bytes.value());
  if (pinned == nullptr) {
    MEMO_TRY(t.after, events_.take());
    if (direction_ == plan::Direction::in) {
      MEMO_TRY(t.end, events_.take());
    }
    MEMO_CHECKED(check(cudaEventRecord(t.after.get(), compute_), "note what compute was given"));
    t.state = State::staged;
    ++staged_;
    staging_->put({r, tier, t.after.get(), t.end.get(), static_cast<std::int64_t>(number)});
    return {};
  }
  if (!ordered) {
    MEMO_CHECKED(check(cudaEventRecord(given_.get(), compute_), "note what compute was given"));
    MEMO_CHECKED(check(cudaStreamWaitEvent(stream_, given_.get(), 0), "order copies behind compute"));
    ordered = true;
  }
  MEMO_TRY(t.begin, events_.take());
  MEMO_TRY(t.end, events_.take());
  MEMO_CHECKED(check(cudaEventRecord(t.begin.get(), stream_), "note the start of a copy"));
  const auto bytes = static_cast<std::size_t>(r.bytes.value());
  MEMO_CHECKED(check(direction_ == plan::Direction::out
                         ? cudaMemcpyAsync(pinned, r.device, bytes, cudaMemcpyDeviceToHost, stream_)
                         : cudaMemcpyAsync(r.device, pinned, bytes, cudaMemcpyHostToDevice, stream_),
                     "copy between the GPU and the host"));
  MEMO_CHECKED(check(cudaEventRecord(t.end.get(), stream_), "note the end of a copy"));
  t.state = State::given;
  return {};
}

// Called on the staging thread.
void Lane::staged(std::size_t number, double start, double end, Status status) {
  const std::lock_guard lock(mutex_);
  Transfer& t = transfers_[number];
  t.start_time = start;
  t.end_time = end;
  --staged_;
  if (!status)
    fail(number, status.error());
  else
    t.state = direction_ == plan::Direction::out ? State::ended : State::given;
  progress_.notify_all();
}

Status Lane::wait(std::int64_t number) {
  std::unique_lock lock(mutex_);
  MEMO_CHECK(number < base_ + static_cast<std::int64_t>(copies_.size()), "a ticket that is waited for was given out");
  if (number >= base_) {
    const auto copy = static_cast<std::size_t>(number - base_);
    const auto above = std::ranges::upper_bound(transfers_, copy, {}, &Transfer::first);
    const auto at = static_cast<std::size_t>(above - transfers_.begin()) - 1;
    progress_.wait(lock, [&] { return transfers_[at].state != State::staged; });
    Transfer& t = transfers_[at];
    if (t.state == State::given && !t.waited) {
      MEMO_CHECKED(check(cudaStreamWaitEvent(compute_, t.end.get(), 0), "order compute behind a copy"));
      t.waited = true;
    }
  }
  const auto failure = failures_.find(number);
  return failure == failures_.end() ? Status() : Status(tl::unexpected(failure->second));
}

void Lane::settle() {
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [&] { return staged_ == 0; });
}

Status Lane::finish(const Status& streams) {
  const std::lock_guard lock(mutex_);
  gather(streams);
  const auto failure = failures_.lower_bound(base_);
  base_ += static_cast<std::int64_t>(copies_.size());
  copies_.clear();
  transfers_.clear();
  submitted_ = gathered_ = 0;
  return failure == failures_.end() ? streams : Status(tl::unexpected(failure->second));
}

std::vector<exec::Span> Lane::take_spans() {
  const std::lock_guard lock(mutex_);
  return std::exchange(spans_, {});
}

// Notes the spans of transfers that have ended, in order, up to the first that has not, and frees their events. Where
// `streams` failed, transfers that have not ended have failed too.
void Lane::gather(const Status& streams) {
  for (; gathered_ < submitted_; ++gathered_) {
    Transfer& t = transfers_[gathered_];
    if (t.state == State::staged) return;
    if (t.state == State::given) {
      const Result<bool> ended = has_ended(t.end.get());
      if (ended && !*ended && streams) return;
      Status status = !ended ? Status(tl::unexpected(ended.error())) : *ended ? Status() : streams;
      if (status) status = time(t);
      if (!status) fail(gathered_, status.error());
    }
    if (t.state != State::failed) note_spans(gathered_);
    for (Event* event : {&t.after, &t.begin, &t.end})
      if (*event) events_.put(std::move(*event));
  }
}

Status Lane::time(Transfer& t) {
  if (t.begin) {
    MEMO_TRY(t.start_time, clock_.at(t.begin.get(), t.start_time));
  }
  MEMO_TRY(t.end_time, clock_.at(t.end.get(), t.start_time));
  t.state = State::ended;
  return {};
}

// Copies that moved as one share its time in proportion to their bytes. The staging thread begins a copy while the one
// before it still moves; their common time counts for the earlier one.
void Lane::note_spans(std::size_t number) {
  const Transfer& t = transfers_[number];
  double start = std::max(t.start_time, last_end_);
  const double per_byte = std::max(t.end_time - start, 0.0) / static_cast<double>(t.request.bytes.value());
  for (std::size_t copy = t.first; copy < end_of(number); ++copy) {
    last_end_ = start + per_byte * static_cast<double>(copies_[copy].bytes.value());
    spans_.push_back({.index = copies_[copy].index, .start = start, .end = last_end_});
    start = last_end_;
  }
}

void Lane::fail(std::size_t number, const Error& error) {
  transfers_[number].state = State::failed;
  for (std::size_t copy = transfers_[number].first; copy < end_of(number); ++copy)
    failures_.emplace(base_ + static_cast<std::int64_t>(copy), error);
}

std::size_t Lane::end_of(std::size_t number) const {
  return number + 1 < transfers_.size() ? transfers_[number + 1].first : copies_.size();
}

}  // namespace memo::cuda
