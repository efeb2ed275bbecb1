// Chooses faults by a seed, and performs operations with them.
#include "memo/exec/faulty_tier.h"

#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <sstream>

namespace memo::exec {
namespace {

bool possible(Fault fault, plan::Direction direction) {
  if (fault == Fault::io_error || fault == Fault::stall) return true;
  const bool of_writes = fault == Fault::disk_full || fault == Fault::torn_write || fault == Fault::lost_write;
  return of_writes == (direction == plan::Direction::out);
}

// Half of an operation, in whole units of direct I/O.
std::int64_t half(std::int64_t bytes) { return bytes / 2 / plan::copy_alignment * plan::copy_alignment; }

Status failed(const char* what, std::int64_t offset, int error) {
  return run_time_error(fmt::format("disk tier: cannot {} at offset {}: {}", what, offset, std::strerror(error)));
}

}  // namespace

const char* name_of(Fault fault) {
  static constexpr const char* names[] = {"disk full",  "I/O error",   "torn write", "lost write",
                                          "short read", "flipped bit", "stall"};
  return names[static_cast<std::size_t>(fault)];
}

Result<Faults> parse_faults(const std::string& text) {
  Faults faults;
  std::istringstream in(text);
  char colon = ':';
  std::string kind;
  bool good = static_cast<bool>(in >> faults.seed);
  if (good && in.peek() == ':') good = static_cast<bool>(in >> colon >> faults.rate);
  if (good && in.peek() == ':') {
    std::getline(in >> colon, kind);
    std::erase_if(faults.kinds, [&](Fault fault) { return name_of(fault) != kind; });
    good = !faults.kinds.empty();
  }
  if (!good || !(in >> std::ws).eof())
    return bad_input(
        fmt::format("faults '{}': write SEED, SEED:RATE or SEED:RATE:KIND, such as 7:0.01:flipped bit", text));
  return faults;
}

FaultyTier::FaultyTier(std::unique_ptr<TierStore> store, Faults faults)
    : store_(std::move(store)), faults_(std::move(faults)) {}

FaultyTier::Draw FaultyTier::draw(plan::Direction direction) {
  const std::lock_guard lock(mutex_);
  const auto d = static_cast<std::size_t>(direction);
  std::mt19937_64 random(faults_.seed * 2 + d + 0x9e3779b97f4a7c15 * ++count_[d]);
  if (std::uniform_real_distribution<double>()(random) >= faults_.rate) return {};
  std::vector<Fault> kinds;
  for (const Fault fault : faults_.kinds)
    if (possible(fault, direction)) kinds.push_back(fault);
  if (kinds.empty()) return {};
  injected_.push_back(kinds[random() % kinds.size()]);
  return {true, injected_.back(), random()};
}

Status FaultyTier::stall(const Status& status) {
  std::unique_lock lock(mutex_);
  released_.wait_for(lock, std::chrono::duration<double>(faults_.stall.value()), [&] { return stalls_end_; });
  return status;
}

Status FaultyTier::write(std::int64_t offset, const std::byte* from, std::int64_t bytes) {
  const Draw drawn = draw(plan::Direction::out);
  if (!drawn.fails) return store_->write(offset, from, bytes);
  switch (drawn.fault) {
    case Fault::lost_write:
      return {};
    case Fault::stall:
      return stall(store_->write(offset, from, bytes));
    default:
      break;
  }
  MEMO_CHECKED(store_->write(offset, from, half(bytes)));
  if (drawn.fault == Fault::torn_write) return {};
  return failed("write", offset + half(bytes), drawn.fault == Fault::disk_full ? ENOSPC : EIO);
}

Status FaultyTier::read(std::int64_t offset, std::byte* to, std::int64_t bytes) {
  const Draw drawn = draw(plan::Direction::in);
  const bool whole = !drawn.fails || drawn.fault == Fault::stall || drawn.fault == Fault::flipped_bit;
  MEMO_CHECKED(store_->read(offset, to, whole ? bytes : half(bytes)));
  if (!drawn.fails || drawn.fault == Fault::short_read) return {};
  if (drawn.fault == Fault::stall) return stall({});
  if (drawn.fault == Fault::io_error) return failed("read", offset + half(bytes), EIO);
  const std::uint64_t bit = drawn.random % (static_cast<std::uint64_t>(bytes) * 8);
  to[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
  return {};
}

std::vector<Fault> FaultyTier::injected() const {
  const std::lock_guard lock(mutex_);
  return injected_;
}

void FaultyTier::end_stalls() {
  const std::lock_guard lock(mutex_);  // held during notify too: a released caller may destroy the tier at once
  stalls_end_ = true;
  released_.notify_all();
}

}  // namespace memo::exec
