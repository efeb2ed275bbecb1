// Writing that survives a kill at any moment: a file appears whole and synced, or not at all.
#pragma once

#include <cstddef>
#include <span>

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::edge {

// Written beside its place; `commit` syncs it, renames it into place and syncs the folder. Without a commit nothing
// stays. Errors name the file and the reason.
class DurableFile {
 public:
  static Result<DurableFile> create(const Path& path);
  DurableFile(DurableFile&& other) noexcept;
  DurableFile& operator=(DurableFile&&) = delete;
  ~DurableFile();

  Status write(std::span<const std::byte> bytes);
  Status commit();

 private:
  DurableFile(Path path, Path partial, int fd) : path_(std::move(path)), partial_(std::move(partial)), fd_(fd) {}
  Path path_, partial_;
  int fd_;
};

// Brings a file's bytes, or a folder's list of names, to the disk.
Status sync_path(const Path& path);

}  // namespace memo::edge
