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
    note(offset, {bytes, {}});
    MEMO_CHECKED(store_->write(offset, from, bytes));
    note(offset, {bytes, hash});
    return {};
  }

  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    const std::optional<Written> written = find(offset, bytes);
    if (written && (written->bytes != bytes || !written->hash))
      return run_time_error(fmt::format("{} tier: {} at offset {} are read, but were not written as a whole", name_,
                                        format_bytes(Bytes(bytes)), offset));
    MEMO_CHECKED(store_->read(offset, to, bytes));
    if (!written) return {};
    const std::uint64_t found = XXH3_64bits(to, static_cast<std::size_t>(bytes));
    if (found == *written->hash) return {};
    return run_time_error(
        fmt::format("{} tier: {} at offset {} are not what was written there (checksum {:016x}, "
                    "not {:016x}): the disk or the memory is damaged",
                    name_, format_bytes(Bytes(bytes)), offset, found, *written->hash));
  }

 private:
  struct Written {
    std::int64_t bytes;
    std::optional<std::uint64_t> hash;  // none while it is written, and after that failed
  };
  using Writes = std::map<std::int64_t, Written>;  // by offset; no two overlap

  // The first write that overlaps a range, or the end.
  Writes::iterator first_in(std::int64_t offset, std::int64_t bytes) {
    auto first = writes_.lower_bound(offset);
    if (first != writes_.begin() && std::prev(first)->first + std::prev(first)->second.bytes > offset) --first;
    return first != writes_.end() && first->first < offset + bytes ? first : writes_.end();
  }

  void note(std::int64_t offset, const Written& written) {
    const std::lock_guard lock(mutex_);
    if (const auto first = first_in(offset, written.bytes); first != writes_.end())
      writes_.erase(first, writes_.lower_bound(offset + written.bytes));
    writes_[offset] = written;
  }

  // What was written to a range: as it is, without a hash where the write was of another place; none: nothing was.
  std::optional<Written> find(std::int64_t offset, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto first = first_in(offset, bytes);
    if (first == writes_.end()) return {};
    return first->first == offset ? first->second : Written{0, {}};
  }

  const std::unique_ptr<TierStore> store_;
  const std::string name_;
  std::mutex mutex_;  // guards:
  Writes writes_;
};

}  // namespace

std::unique_ptr<TierStore> checksummed(std::unique_ptr<TierStore> store, std::string name) {
  return std::make_unique<ChecksummedTier>(std::move(store), std::move(name));
}

}  // namespace memo::exec
