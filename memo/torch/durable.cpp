#include "memo/torch/durable.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace memo::edge {
namespace {

tl::unexpected<Error> failed(const Path& path, const char* doing) {
  return run_time_error(fmt::format("{}: cannot {}: {}", path.string(), doing, std::strerror(errno)));
}

}  // namespace

Result<DurableFile> DurableFile::create(const Path& path) {
  Path partial = path.string() + ".partial";
  const int fd = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return failed(path, "write");
  return DurableFile(path, std::move(partial), fd);
}

DurableFile::DurableFile(DurableFile&& other) noexcept
    : path_(std::move(other.path_)), partial_(std::move(other.partial_)), fd_(std::exchange(other.fd_, -1)) {}

DurableFile::~DurableFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(partial_.c_str());
}

Status DurableFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(fd_, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return failed(path_, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
  }
  return {};
}

Status DurableFile::commit() {
  if (::fsync(fd_) != 0) return failed(path_, "sync");
  if (::rename(partial_.c_str(), path_.c_str()) != 0) return failed(path_, "rename into place");
  ::close(std::exchange(fd_, -1));
  return sync_path(path_.has_parent_path() ? path_.parent_path() : Path("."));
}

Status sync_path(const Path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed(path, "open");
  const bool synced = ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  errno = error;
  return synced ? Status() : failed(path, "sync");
}

}  // namespace memo::edge
