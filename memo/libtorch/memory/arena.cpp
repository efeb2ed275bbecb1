// Arenas by the system's mmap, their resident pages by mincore.
#include "memo/libtorch/memory/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/libtorch/memory/allocator.h"

namespace memo::libtorch {
namespace {

std::int64_t page_bytes() {
  static const std::int64_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

}  // namespace

Result<Arena> Arena::map(Bytes bytes) {
  MEMO_CHECK(bytes >= Bytes(0), "an arena's size is not negative");
  if (bytes == Bytes(0)) return Arena(nullptr, bytes);
  void* data = mmap(nullptr, static_cast<std::size_t>(bytes.value()), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return run_time_error("cannot map an arena of " + format_bytes(bytes) + " (" + std::strerror(errno) +
                          "): lower memory.device_limit, or raise the limit of the process (ulimit -v, "
                          "vm.overcommit_memory)");
  }
  auto* begin = static_cast<std::byte*>(data);
  // Advises large pages: rows of a wide tensor lie in many pages, and a core's table of pages is small. Small arenas
  // stay exact.
  constexpr Bytes worth_huge_pages(64 << 20);
  if (bytes >= worth_huge_pages) madvise(data, static_cast<std::size_t>(bytes.value()), MADV_HUGEPAGE);
  register_arena(begin, bytes);
  return Arena(begin, bytes);
}

Arena::Arena(std::shared_ptr<std::byte> memory, Bytes bytes)
    : data_(memory.get()), bytes_(bytes), other_(std::move(memory)) {
  if (data_ != nullptr) register_arena(data_, bytes_);
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, Bytes(0))),
      other_(std::move(other.other_)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(other_, other.other_);
  return *this;
}

Arena::~Arena() {
  if (data_ == nullptr) return;
  withdraw_arena(data_, [data = data_, size = static_cast<std::size_t>(bytes_.value()), other = std::move(other_)] {
    if (!other) munmap(data, size);
  });
}

void Arena::clear() {
  if (data_ == nullptr || other_) return;
  const int cleared = madvise(data_, static_cast<std::size_t>(bytes_.value()), MADV_DONTNEED);
  MEMO_CHECK(cleared == 0, "an arena is mapped");
}

Bytes Arena::resident() const {
  if (other_) return bytes_;
  constexpr std::int64_t pages_at_once = 1 << 16;
  std::vector<unsigned char> in_memory(pages_at_once);
  std::int64_t pages = 0;
  for (std::int64_t begin = 0; begin < bytes_.value(); begin += pages_at_once * page_bytes()) {
    const std::int64_t length = std::min(pages_at_once * page_bytes(), bytes_.value() - begin);
    MEMO_CHECK(mincore(data_ + begin, static_cast<std::size_t>(length), in_memory.data()) == 0, "an arena is mapped");
    pages += std::count_if(in_memory.begin(), in_memory.begin() + (length + page_bytes() - 1) / page_bytes(),
                           [](unsigned char page) { return (page & 1) != 0; });
  }
  return Bytes(pages * page_bytes());
}

}  // namespace memo::libtorch
