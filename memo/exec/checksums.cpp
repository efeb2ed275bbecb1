#include "memo/exec/checksums.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <iterator>
#include <map>
#include <mutex>
#include <optional>

#include "memo/base/text.h"

namespace memo::exec {
namespace {

class ChecksummedTier final : public TierStore {
 public:
  ChecksummedTier(std::unique_ptr<TierStore> store, std::string name)
      : store_(std::move(store)), name_(std::move(name)) {}

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    const std::uint64_t hash = XXH3_64bits(from, static_cast<std::size_t>(bytes));
    forget(offset, bytes);  // also where the write fails: what is there then, nobody knows
    MEMO_CHECKED(store_->write(offset, from, bytes));
    const std::lock_guard lock(mutex_);
    written_[offset] = {bytes, hash};
    return {};
  }

  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    const std::optional<std::uint64_t> expected = hash_of(offset, bytes);
    if (!expected)
      return run_time_error(fmt::format("{} tier: {} at offset {} are read, but were not written as a whole", name_,
                                        format_bytes(Bytes(bytes)), offset));
    MEMO_CHECKED(store_->read(offset, to, bytes));
    const std::uint64_t found = XXH3_64bits(to, static_cast<std::size_t>(bytes));
    if (found == *expected) return {};
    return run_time_error(
        fmt::format("{} tier: {} at offset {} are not what was written there (checksum {:016x}, "
                    "not {:016x}): the disk or the memory is damaged",
                    name_, format_bytes(Bytes(bytes)), offset, found, *expected));
  }

 private:
  struct Written {
    std::int64_t bytes;
    std::uint64_t hash;
  };

  void forget(std::int64_t offset, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    auto first = written_.lower_bound(offset);
    if (first != written_.begin() && std::prev(first)->first + std::prev(first)->second.bytes > offset) --first;
    written_.erase(first, written_.lower_bound(offset + bytes));
  }

  std::optional<std::uint64_t> hash_of(std::int64_t offset, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = written_.find(offset);
    if (found == written_.end() || found->second.bytes != bytes) return {};
    return found->second.hash;
  }

  const std::unique_ptr<TierStore> store_;
  const std::string name_;
  std::mutex mutex_;                         // guards:
  std::map<std::int64_t, Written> written_;  // by offset; no two overlap
};

}  // namespace

std::unique_ptr<TierStore> checksummed(std::unique_ptr<TierStore> store, std::string name) {
  return std::make_unique<ChecksummedTier>(std::move(store), std::move(name));
}

}  // namespace memo::exec
