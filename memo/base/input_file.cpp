// Opens regular files, and reads or maps them.
#include "memo/base/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace memo {

Result<InputFile> InputFile::open(const Path& path) {
  // Without O_NONBLOCK a named pipe would wait for its writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return bad_input(fmt::format("{}: {}", path.string(), why_not_opened(path, errno)));
  InputFile file(path, fd, 0);
  struct stat about {};
  if (::fstat(fd, &about) != 0)
    return run_time_error(fmt::format("{}: cannot read: {}", path.string(), std::strerror(errno)));
  if (!S_ISREG(about.st_mode)) return bad_input(fmt::format("{}: is not a regular file", path.string()));
  file.size_ = about.st_size;
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status InputFile::read(std::int64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd_, into.data(), into.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return run_time_error(fmt::format("{}: cannot read: {}", path_.string(), std::strerror(errno)));
    if (got == 0)
      return bad_input(fmt::format("{}: ends at byte {}, {} bytes early; the file is truncated, copy it again",
                                   path_.string(), offset, into.size()));
    into = into.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
  return {};
}

Result<MappedFile> MappedFile::map(const Path& path) {
  MEMO_TRY(const InputFile file, InputFile::open(path));
  return map(file.fd_, file.size()).map_error([&](Error error) {
    error.message = path.string() + ": " + error.message;
    return error;
  });
}

Result<MappedFile> MappedFile::map(int fd, std::int64_t length) {
  const auto size = static_cast<std::size_t>(length);
  if (size == 0) return MappedFile(nullptr, 0);  // mmap refuses empty ranges
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return run_time_error(fmt::format("cannot map: {}", std::strerror(errno)));
  return MappedFile(static_cast<const std::byte*>(data), size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release() const {
  if (size_ > 0) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

}  // namespace memo
