// A tier in memory that can be slow, stuck or broken, and remembers what it was asked to do.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "memo/exec/tier.h"
#include "memo/plan/program.h"

namespace memo::exec {

class FakeTier : public TierStore {
 public:
  explicit FakeTier(std::int64_t bytes) : memory_(static_cast<std::size_t>(bytes)) {}

  // Operations take a random time up to `most` from now on.
  void delay(std::uint64_t seed, std::chrono::microseconds most) {
    const std::lock_guard lock(mutex_);
    random_.seed(seed);
    most_delay_ = most;
  }
  // Operations of `direction` at `offset` fail with `message`.
  void fail_at(plan::Direction direction, std::int64_t offset, std::string message) {
    const std::lock_guard lock(mutex_);
    failing_[{direction, offset}] = std::move(message);
  }
  void heal() {
    const std::lock_guard lock(mutex_);
    failing_.clear();
  }
  // Operations of `direction` begin, and do not go on before `release`.
  void hold(plan::Direction direction) {
    const std::lock_guard lock(mutex_);
    held_[static_cast<int>(direction)] = true;
  }
  void release(plan::Direction direction) {
    const std::lock_guard lock(mutex_);  // while it notifies too: who is released may destroy the tier at once
    held_[static_cast<int>(direction)] = false;
    released_.notify_all();
  }

  // Offsets of the operations of a direction that have ended, in order.
  std::vector<std::int64_t> ended(plan::Direction direction) {
    const std::lock_guard lock(mutex_);
    return ended_[static_cast<int>(direction)];
  }

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    return operate(plan::Direction::out, offset, memory_.data() + offset, from, bytes);
  }
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    return operate(plan::Direction::in, offset, to, memory_.data() + offset, bytes);
  }

 private:
  // Moves half before the delay and half after, so that a copy that overlaps its neighbours shows.
  Status operate(plan::Direction direction, std::int64_t offset, std::byte* to, const std::byte* from,
                 std::int64_t bytes) {
    const auto half = static_cast<std::size_t>(bytes / 2), rest = static_cast<std::size_t>(bytes) - half;
    std::memcpy(to, from, half);
    std::unique_lock lock(mutex_);
    released_.wait(lock, [&] { return !held_[static_cast<int>(direction)]; });
    const auto failure = failing_.find({direction, offset});
    const std::string message = failure == failing_.end() ? "" : failure->second;
    const std::chrono::microseconds pause(
        most_delay_.count() == 0 ? 0 : std::uniform_int_distribution<std::int64_t>(0, most_delay_.count())(random_));
    lock.unlock();
    if (pause.count() > 0) std::this_thread::sleep_for(pause);
    if (message.empty()) std::memcpy(to + half, from + half, rest);
    lock.lock();
    ended_[static_cast<int>(direction)].push_back(offset);
    return message.empty() ? Status() : Status(run_time_error(message));
  }

  std::vector<std::byte> memory_;
  std::mutex mutex_;  // guards all below; not the bytes, whose order is what tests are about
  std::condition_variable released_;
  std::mt19937_64 random_;
  std::chrono::microseconds most_delay_{0};
  std::map<std::pair<plan::Direction, std::int64_t>, std::string> failing_;
  bool held_[2] = {false, false};
  std::vector<std::int64_t> ended_[2];
};

}  // namespace memo::exec
