// Files as bytes, read at an offset or mapped: for files larger than memory, and files that others wrote.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo {

// A regular file, open for reading.
class InputFile {
 public:
  static Result<InputFile> open(const Path& path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  [[nodiscard]] std::int64_t size() const { return size_; }
  // Fills `into` with the bytes from `offset` on. Fails when the file ends first.
  Status read(std::int64_t offset, std::span<std::byte> into) const;

 private:
  friend class MappedFile;
  InputFile(Path path, int fd, std::int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  Path path_;
  int fd_;
  std::int64_t size_;  // at the time it was opened
};

// A whole file as bytes, read into memory when they are touched. The file must not shrink while it is mapped.
class MappedFile {
 public:
  static Result<MappedFile> map(const Path& path);
  static Result<MappedFile> map(int fd, std::int64_t size);  // maps an open file
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Releases the memory of every page; touching a page reads it from the file again.
  void release() const;

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}
  const std::byte* data_;
  std::size_t size_;
};

}  // namespace memo
