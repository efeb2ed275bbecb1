// Worker threads that copy. A worker without work sleeps on a condition variable and never spins, since it shares the
// cores with compute.
#include "memo/exec/cpu_copies.h"

#include <time.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "memo/base/check.h"

namespace memo::exec {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds of a core that the calling thread has used, including time in the kernel.
double thread_cpu() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// One direction: a queue and its thread. Copies are numbered from 0 and end in order, so `ended_` alone tells which
// have ended.
class Stream {
 public:
  Stream(const std::vector<TierStore*>& tiers, Clock::time_point epoch)
      : tiers_(tiers), epoch_(epoch), worker_([this] { work(); }) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  // Ends all started copies first, since their memory may be read afterwards.
  ~Stream() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    worker_.join();
  }

  std::int64_t start(const CopyRequest& request, int index) {
    std::int64_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back({request, index});
      number = started_++;
    }
    wake_.notify_one();
    return number;
  }

  Status wait(std::int64_t number) {
    std::unique_lock lock(mutex_);
    MEMO_CHECK(number < started_, "a ticket that is waited for was given out");
    copy_ended_.wait(lock, [&] { return ended_ > number; });
    const auto failure = failures_.find(number);
    return failure == failures_.end() ? Status() : Status(tl::unexpected(failure->second));
  }

  Status drain() {
    std::unique_lock lock(mutex_);
    copy_ended_.wait(lock, [&] { return ended_ == started_; });
    const auto failure = failures_.lower_bound(std::exchange(drained_, ended_));
    return failure == failures_.end() ? Status() : Status(tl::unexpected(failure->second));
  }

  std::vector<Span> take_spans() {
    const std::lock_guard lock(mutex_);
    return std::exchange(spans_, {});
  }

 private:
  struct Job {
    CopyRequest request;
    int index;
  };

  [[nodiscard]] double now() const { return std::chrono::duration<double>(Clock::now() - epoch_).count(); }

  Status copy(const CopyRequest& r) {
    TierStore& tier = *tiers_[static_cast<std::size_t>(r.tier)];
    return r.direction == plan::Direction::out ? tier.write(r.tier_offset.value(), r.device, r.bytes.value())
                                               : tier.read(r.tier_offset.value(), r.device, r.bytes.value());
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return !queue_.empty() || stopping_; });
      if (queue_.empty()) return;
      const Job job = queue_.front();
      queue_.pop_front();
      lock.unlock();
      const double start = now(), cpu = thread_cpu();
      Status status = copy(job.request);
      const double end = now(), used = thread_cpu() - cpu;
      lock.lock();
      spans_.push_back({.index = job.index, .start = start, .end = end, .cpu = used});
      if (!status) failures_.emplace(ended_, std::move(status).error());
      ++ended_;
      copy_ended_.notify_all();
    }
  }

  const std::vector<TierStore*>& tiers_;
  const Clock::time_point epoch_;

  std::mutex mutex_;  // guards all members below, except the thread
  std::condition_variable wake_, copy_ended_;
  std::deque<Job> queue_;
  std::int64_t started_ = 0, ended_ = 0, drained_ = 0;
  std::map<std::int64_t, Error> failures_;  // by number; kept, so that every wait for a failed copy fails
  std::vector<Span> spans_;
  bool stopping_ = false;
  std::thread worker_;  // last, since it uses the other members
};

class CpuCopyEngine final : public CopyEngine {
 public:
  explicit CpuCopyEngine(std::vector<TierStore*> tiers) : tiers_(std::move(tiers)) {}

  // A ticket is the copy's number within its direction, times 2, plus the direction.
  Ticket start(const CopyRequest& request, int index) override {
    MEMO_CHECK(0 <= request.tier && static_cast<std::size_t>(request.tier) < tiers_.size(), "a copy's tier exists");
    return stream(request.direction).start(request, index) * 2 + (request.direction == plan::Direction::in ? 1 : 0);
  }
  Status wait(Ticket ticket) override { return (ticket % 2 == 1 ? in_ : out_).wait(ticket / 2); }
  Status drain() override {
    const Status out = out_.drain(), in = in_.drain();
    return out ? in : out;
  }
  [[nodiscard]] double now() const override { return std::chrono::duration<double>(Clock::now() - epoch_).count(); }
  std::vector<Span> take_spans(plan::Direction direction) override { return stream(direction).take_spans(); }

 private:
  Stream& stream(plan::Direction direction) { return direction == plan::Direction::out ? out_ : in_; }

  const std::vector<TierStore*> tiers_;
  const Clock::time_point epoch_ = Clock::now();
  Stream out_{tiers_, epoch_}, in_{tiers_, epoch_};
};

}  // namespace

std::unique_ptr<CopyEngine> cpu_copy_engine(std::vector<TierStore*> tiers) {
  return std::make_unique<CpuCopyEngine>(std::move(tiers));
}

}  // namespace memo::exec
