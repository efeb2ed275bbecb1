// Host memory as a tier. It is one private mapping, so that its bytes belong to the tier and not to an allocator, and
// return to the system with it.
#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/exec/tier.h"

namespace memo::exec {
namespace {

class MemoryTier final : public TierStore {
 public:
  MemoryTier(std::shared_ptr<std::byte> memory, std::int64_t capacity, bool pinned)
      : memory_(std::move(memory)), capacity_(capacity), pinned_(pinned) {}

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    std::memcpy(at(offset, bytes), from, static_cast<std::size_t>(bytes));
    return {};
  }
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    std::memcpy(to, at(offset, bytes), static_cast<std::size_t>(bytes));
    return {};
  }
  [[nodiscard]] std::byte* pinned(std::int64_t offset, std::int64_t bytes) const override {
    return pinned_ ? at(offset, bytes) : nullptr;
  }

 private:
  [[nodiscard]] std::byte* at(std::int64_t offset, std::int64_t bytes) const {
    MEMO_CHECK(offset >= 0 && bytes >= 0 && bytes <= capacity_ - offset, "a copy lies inside its tier");
    return memory_.get() + offset;
  }

  const std::shared_ptr<std::byte> memory_;
  const std::int64_t capacity_;
  const bool pinned_;
};

}  // namespace

std::unique_ptr<TierStore> memory_tier(std::shared_ptr<std::byte> memory, Bytes bytes, bool pinned) {
  return std::make_unique<MemoryTier>(std::move(memory), bytes.value(), pinned);
}

Result<std::unique_ptr<TierStore>> host_tier(Bytes bytes) {
  if (bytes.value() == 0) return memory_tier(nullptr, bytes, false);  // the kernel refuses empty mappings
  const auto size = static_cast<std::size_t>(bytes.value());
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return run_time_error(fmt::format("host tier: cannot map {} of memory: {}; lower [memory] host_limit",
                                      format_bytes(bytes), std::strerror(errno)));
  const auto unmap = [size](std::byte* begin) { ::munmap(begin, size); };
  return memory_tier(std::shared_ptr<std::byte>(static_cast<std::byte*>(memory), unmap), bytes, false);
}

}  // namespace memo::exec
