// Host memory as a tier: one private mapping, so that its bytes are the tier's and not an allocator's, and return to
// the system with it.
#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/exec/tier.h"

namespace memo::exec {
namespace {

class HostTier final : public TierStore {
 public:
  HostTier(std::byte* memory, std::int64_t capacity) : memory_(memory), capacity_(capacity) {}
  HostTier(const HostTier&) = delete;
  HostTier& operator=(const HostTier&) = delete;
  ~HostTier() override {
    if (capacity_ > 0) ::munmap(memory_, static_cast<std::size_t>(capacity_));
  }

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    std::memcpy(at(offset, bytes), from, static_cast<std::size_t>(bytes));
    return {};
  }
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    std::memcpy(to, at(offset, bytes), static_cast<std::size_t>(bytes));
    return {};
  }

 private:
  [[nodiscard]] std::byte* at(std::int64_t offset, std::int64_t bytes) const {
    MEMO_CHECK(offset >= 0 && bytes >= 0 && bytes <= capacity_ - offset, "a copy lies inside its tier");
    return memory_ + offset;
  }

  std::byte* const memory_;
  const std::int64_t capacity_;
};

}  // namespace

Result<std::unique_ptr<TierStore>> host_tier(Bytes bytes) {
  if (bytes.value() == 0) return std::make_unique<HostTier>(nullptr, 0);  // an empty mapping is refused by the kernel
  void* memory = ::mmap(nullptr, static_cast<std::size_t>(bytes.value()), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return run_time_error(fmt::format("host tier: cannot map {} of memory: {}; lower [memory] host_limit",
                                      format_bytes(bytes), std::strerror(errno)));
  return std::make_unique<HostTier>(static_cast<std::byte*>(memory), bytes.value());
}

}  // namespace memo::exec
