// A file as a tier. The file never has a name, so that nothing is left behind however the process ends. It bypasses the
// page cache, which would compete for the memory that the tier is there to save.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/exec/ring.h"
#include "memo/exec/tier.h"

namespace memo::exec {
namespace {

constexpr std::int64_t alignment = 4096;  // required by direct I/O of addresses, sizes and offsets on any common disk

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

class DiskTier final : public TierStore {
 public:
  DiskTier(Path folder, File file, std::int64_t capacity)
      : folder_(std::move(folder)), file_(std::move(file)), capacity_(capacity) {}

  Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) override {
    // The cast is safe: to write to the file, the ring only reads from memory.
    return move(plan::Direction::out, offset, const_cast<std::byte*>(from), bytes);
  }
  Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) override {
    return move(plan::Direction::in, offset, to, bytes);
  }

 private:
  Status move(plan::Direction direction, std::int64_t offset, std::byte* memory, std::int64_t bytes) {
    MEMO_CHECK(offset >= 0 && bytes >= 0 && bytes <= capacity_ - offset, "a copy lies inside its tier");
    MEMO_CHECK(
        offset % alignment == 0 && bytes % alignment == 0 && reinterpret_cast<std::uintptr_t>(memory) % alignment == 0,
        "a copy to or from disk is aligned for direct I/O");
    const bool out = direction == plan::Direction::out;
    const Ring::Outcome outcome = (out ? out_ : in_).transfer(direction, file_.fd(), offset, memory, bytes);
    if (outcome.error == 0) return {};
    return run_time_error(fmt::format("disk tier in {}: cannot {} at offset {}: {}", folder_.string(),
                                      out ? "write" : "read", outcome.offset,
                                      outcome.error == ENODATA ? "the file ends early" : std::strerror(outcome.error)));
  }

  const Path folder_;
  const File file_;
  const std::int64_t capacity_;
  Ring out_, in_;  // one for each direction, so that reads do not wait for writes
};

// Opens a file without a name; where the file system has no such files, one whose name is removed at once.
int open_unnamed(const Path& folder) {
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  std::string name = (folder / ".memo-tier-XXXXXX").string();
  const int named = ::mkostemp(name.data(), O_CLOEXEC);  // mode 0600
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

Status reserve(const File& file, const Path& folder, Bytes bytes) {
  struct statvfs system {};
  if (::fstatvfs(file.fd(), &system) != 0)
    return run_time_error(
        fmt::format("disk tier in {}: cannot ask for free space: {}", folder.string(), std::strerror(errno)));
  const Bytes free(static_cast<std::int64_t>(system.f_bavail * system.f_frsize));
  int error = 0;
  // Checked before reserving: a reservation that fails half-way would fill the disk for a moment.
  if (bytes > free) {
    error = ENOSPC;
  } else if (bytes.value() > 0) {
    // posix_fallocate would write into each block where the file system cannot reserve, and direct I/O refuses such
    // writes.
    while ((error = ::fallocate(file.fd(), 0, 0, bytes.value()) == 0 ? 0 : errno) == EINTR) {
    }
  }
  if (error == 0) return {};
  const char* fix = error == EOPNOTSUPP
                        ? "name a folder on a local disk (ext4, xfs, btrfs) in [memory] disk"
                        : "free space, name a folder on a larger disk in [memory] disk, or lower [memory] disk_limit";
  return run_time_error(fmt::format("disk tier in {}: cannot reserve {} ({} free): {}; {}", folder.string(),
                                    format_bytes(bytes), format_bytes(free), std::strerror(error), fix));
}

bool in_memory(const File& file) {
  struct statfs system {};
  return ::fstatfs(file.fd(), &system) == 0 && (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
}

}  // namespace

Result<std::unique_ptr<TierStore>> disk_tier(const Path& folder, Bytes bytes) {
  const auto refuse = [&](const std::string& why) {
    return bad_input(fmt::format("disk tier in {}: {}; name another folder, on a local disk, in [memory] disk",
                                 folder.string(), why));
  };
  File file(open_unnamed(folder));
  if (file.fd() < 0) return refuse(fmt::format("cannot create a file: {}", std::strerror(errno)));
  // Newer kernels accept direct I/O there, but still keep the bytes in memory.
  if (in_memory(file)) return refuse("the folder is in memory (tmpfs), not on a disk");
  if (::fcntl(file.fd(), F_SETFL, O_DIRECT) != 0)
    return refuse(fmt::format("the file system refuses direct I/O: {}", std::strerror(errno)));
  MEMO_CHECKED(reserve(file, folder, bytes));
  return std::make_unique<DiskTier>(folder, std::move(file), bytes.value());
}

}  // namespace memo::exec
