// A tier that fails on purpose, to test how a run deals with it. A seed decides which operations fail, and how.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memo/exec/tier.h"
#include "memo/plan/program.h"

namespace memo::exec {

enum class Fault {
  disk_full,    // half of a write is done, then an error
  io_error,     // half of the operation is done, then an error
  torn_write,   // half of the write is done, without an error
  lost_write,   // nothing is written, without an error
  short_read,   // half of the read is done, without an error
  flipped_bit,  // in the result of a read
  stall,        // the operation takes a long time
};
const char* name_of(Fault fault);
inline constexpr Fault all_faults[] = {Fault::disk_full,  Fault::io_error,    Fault::torn_write, Fault::lost_write,
                                       Fault::short_read, Fault::flipped_bit, Fault::stall};

struct Faults {
  std::uint64_t seed = 0;
  double rate = 0.01;                                                      // share of operations that fail
  Seconds stall{3600};                                                     // duration of a stalled operation
  std::vector<Fault> kinds{std::begin(all_faults), std::end(all_faults)};  // faults that may happen
};

// Reads "SEED", "SEED:RATE" or "SEED:RATE:KIND".
Result<Faults> parse_faults(const std::string& text);

class FaultyTier final : public TierStore {
 public:
  FaultyTier(std::unique_ptr<TierStore> store, Faults faults);
  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override;
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override;

  [[nodiscard]] std::vector<Fault> injected() const;
  void end_stalls();  // present ones and later ones

 private:
  // The fault of the next operation of a direction, if any: a function of the seed and the operation's number.
  struct Draw {
    bool fails = false;
    Fault fault{};
    std::uint64_t random = 0;
  };
  Draw draw(plan::Direction direction);
  Status stall(const Status& status);

  const std::unique_ptr<TierStore> store_;
  const Faults faults_;
  mutable std::mutex mutex_;  // guards all members below
  std::condition_variable released_;
  bool stalls_end_ = false;
  std::uint64_t count_[2] = {0, 0};
  std::vector<Fault> injected_;
};

}  // namespace memo::exec
