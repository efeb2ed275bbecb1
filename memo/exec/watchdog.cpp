// The watchdog's thread, and a copy engine and a tier that report to it.
#include "memo/exec/watchdog.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memo/base/text.h"
#include "memo/exec/names.h"

namespace memo::exec {

Watchdog::Watchdog(Seconds bound, std::function<void(const std::string&)> stalled)
    : bound_(std::chrono::duration_cast<Time::duration>(std::chrono::duration<double>(bound.value()))),
      stalled_(std::move(stalled)),
      thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  thread_.join();
}

// Looks a few times within the bound, so that watched code need not wake this thread.
void Watchdog::watch() {
  constexpr int looks = 8;
  std::unique_lock lock(mutex_);
  while (!stop_.wait_for(lock, bound_ / looks, [&] { return stopping_; })) {
    if (under_way_.empty() || Time::now() - moved_ < bound_) continue;
    std::vector<std::string> names;
    for (const Name& name : under_way_) names.push_back(name());
    lock.unlock();
    stalled_(fmt::format("nothing has moved for {}: {}",
                         format_seconds(Seconds(std::chrono::duration<double>(bound_).count())),
                         fmt::join(names, "; ")));
    return;
  }
}

Watchdog::Guard::Guard(Watchdog* dog, Name name) : dog_(dog) {
  if (!dog_) return;
  const std::lock_guard lock(dog_->mutex_);
  if (dog_->under_way_.empty()) dog_->moved_ = Time::now();
  place_ = dog_->under_way_.insert(dog_->under_way_.end(), std::move(name));
}

Watchdog::Guard::~Guard() {
  if (!dog_) return;
  const std::lock_guard lock(dog_->mutex_);
  dog_->moved_ = Time::now();
  dog_->under_way_.erase(place_);
}

void Watchdog::Guard::moved() {
  if (!dog_) return;
  const std::lock_guard lock(dog_->mutex_);
  dog_->moved_ = Time::now();
}

namespace {

class WatchedCopies final : public CopyEngine {
 public:
  WatchedCopies(CopyEngine& engine, Watchdog& dog, const plan::Program& program, const model::Dataflow& flow)
      : engine_(engine), dog_(dog), program_(program), flow_(flow) {}

  Ticket start(const CopyRequest& request, int index) override {
    const Ticket ticket = engine_.start(request, index);
    started_[ticket] = index;
    return ticket;
  }
  Status wait(Ticket ticket) override {
    const Watchdog::Guard guard(&dog_, [this, index = started_.at(ticket)] {
      return "compute waits for " + name_of_copy(flow_, program_, static_cast<std::size_t>(index));
    });
    return engine_.wait(ticket);
  }
  Status drain() override {
    const Watchdog::Guard guard(&dog_, [] { return std::string("the step waits for its last copies"); });
    started_.clear();
    return engine_.drain();
  }
  void submit() override { engine_.submit(); }
  [[nodiscard]] double now() const override { return engine_.now(); }
  void note_moment() override { engine_.note_moment(); }
  std::vector<double> take_moments() override { return engine_.take_moments(); }
  std::vector<Span> take_spans(plan::Direction direction) override { return engine_.take_spans(direction); }

 private:
  CopyEngine& engine_;
  Watchdog& dog_;
  const plan::Program& program_;
  const model::Dataflow& flow_;
  std::unordered_map<Ticket, int> started_;  // since the last drain
};

class WatchedTier final : public TierStore {
 public:
  WatchedTier(std::unique_ptr<TierStore> store, Watchdog& dog, std::string name)
      : store_(std::move(store)), dog_(dog), name_(std::move(name)) {}

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    const Watchdog::Guard guard(&dog_, [=, this] { return describe("a write", offset, bytes); });
    return store_->write(offset, from, bytes);
  }
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    const Watchdog::Guard guard(&dog_, [=, this] { return describe("a read", offset, bytes); });
    return store_->read(offset, to, bytes);
  }
  // Copies that a device makes by itself pass the tier; a watched engine (WatchedCopies) sees them.
  [[nodiscard]] std::byte* pinned(std::int64_t offset, std::int64_t bytes) const override {
    return store_->pinned(offset, bytes);
  }

 private:
  [[nodiscard]] std::string describe(const char* what, std::int64_t offset, std::int64_t bytes) const {
    return fmt::format("{} tier: {} of {} at offset {} is under way", name_, what, format_bytes(Bytes(bytes)), offset);
  }

  const std::unique_ptr<TierStore> store_;
  Watchdog& dog_;
  const std::string name_;
};

}  // namespace

std::unique_ptr<CopyEngine> watched(CopyEngine& engine, Watchdog& dog, const plan::Program& program,
                                    const model::Dataflow& flow) {
  return std::make_unique<WatchedCopies>(engine, dog, program, flow);
}

std::unique_ptr<TierStore> watched(std::unique_ptr<TierStore> store, Watchdog& dog, std::string name) {
  return std::make_unique<WatchedTier>(std::move(store), dog, std::move(name));
}

}  // namespace memo::exec
