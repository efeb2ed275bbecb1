// Files as bytes: read at an offset, or mapped. For files larger than memory, and from strangers.
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
  // Fills `into` from `offset`. Fails when the file ends first.
  Status read(std::int64_t offset, std::span<std::byte> into) const;

 private:
  friend class MappedFile;
  InputFile(Path path, int fd, std::int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  Path path_;
  int fd_;
  std::int64_t size_;  // when it was opened
};

// The bytes of a whole file, brought into memory as they are touched. The file must not shrink while it is mapped.
class MappedFile {
 public:
  static Result<MappedFile> map(const Path& path);
  static Result<MappedFile> map(int fd, std::int64_t size);  // of an open file
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Lets go of the memory of every page; they come back from the file when they are touched.
  void release() const;

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}
  const std::byte* data_;
  std::size_t size_;
};

}  // namespace memo
