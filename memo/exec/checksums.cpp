// A tier that keeps a checksum of every page in memory.
#include "memo/exec/checksums.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/plan/program.h"

namespace memo::exec {
namespace {

constexpr std::int64_t page = plan::copy_alignment;
constexpr std::uint64_t never_written = 0, not_whole = 1;  // stand for a page's checksum

class ChecksummedTier final : public TierStore {
 public:
  ChecksummedTier(std::unique_ptr<TierStore> store, std::string name)
      : store_(std::move(store)), name_(std::move(name)) {}

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    const std::vector<std::uint64_t> sums = sums_of(offset, from, bytes);
    note(offset, std::vector(sums.size(), not_whole));
    MEMO_CHECKED(store_->write(offset, from, bytes));
    note(offset, sums);
    return {};
  }

  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    const std::vector<std::uint64_t> wanted = noted(offset, bytes);
    MEMO_CHECKED(store_->read(offset, to, bytes));
    const std::vector<std::uint64_t> found = sums_of(offset, to, bytes);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i] == found[i] || wanted[i] == never_written) continue;
      const std::string size = format_bytes(Bytes(page));
      const std::int64_t at = offset + static_cast<std::int64_t>(i) * page;
      if (wanted[i] == not_whole)
        return run_time_error(
            fmt::format("{} tier: {} at offset {} are read, but were not written as a whole", name_, size, at));
      return run_time_error(
          fmt::format("{} tier: {} at offset {} are not what was written there (checksum {:016x}, not {:016x}): "
                      "the disk or the memory is damaged",
                      name_, size, at, found[i], wanted[i]));
    }
    return {};
  }

 private:
  static std::vector<std::uint64_t> sums_of(std::int64_t offset, const std::byte* memory, std::int64_t bytes) {
    MEMO_CHECK(offset % page == 0 && bytes % page == 0, "whole pages are copied");
    std::vector<std::uint64_t> sums(static_cast<std::size_t>(bytes / page));
    for (std::uint64_t& sum : sums) {
      sum = std::max(XXH3_64bits(memory, static_cast<std::size_t>(page)), not_whole + 1);
      memory += page;
    }
    return sums;
  }

  void note(std::int64_t offset, const std::vector<std::uint64_t>& sums) {
    const auto first = static_cast<std::size_t>(offset / page);
    const std::lock_guard lock(mutex_);
    if (sums_.size() < first + sums.size()) sums_.resize(first + sums.size(), never_written);
    std::ranges::copy(sums, sums_.begin() + static_cast<std::ptrdiff_t>(first));
  }

  std::vector<std::uint64_t> noted(std::int64_t offset, std::int64_t bytes) {
    std::vector<std::uint64_t> result(static_cast<std::size_t>(bytes / page), never_written);
    const auto first = static_cast<std::size_t>(offset / page);
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < result.size() && first + i < sums_.size(); ++i) result[i] = sums_[first + i];
    return result;
  }

  const std::unique_ptr<TierStore> store_;
  const std::string name_;
  std::mutex mutex_;                 // guards sums_
  std::vector<std::uint64_t> sums_;  // by page, up to the last page written
};

}  // namespace

std::unique_ptr<TierStore> checksummed(std::unique_ptr<TierStore> store, std::string name) {
  return std::make_unique<ChecksummedTier>(std::move(store), std::move(name));
}

}  // namespace memo::exec
