// manifest.json: the files of a checkpoint and a hash of each (XXH3, 64 bits), made of the bytes before they were
// written. A flipped bit in any of the files always shows.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::store {

inline constexpr const char* manifest_name = "manifest.json";

struct FileSum {
  std::string name;  // in the manifest's folder
  std::int64_t bytes = 0;
  std::uint64_t hash = 0;
  bool operator==(const FileSum&) const = default;
};

// A file that is hashed as it is written. It is not synced by itself: the whole folder is, before it gets its name.
// Without `close` the file is removed. Errors name the file and the reason.
class HashedFile {
 public:
  static Result<HashedFile> create(const Path& path);
  HashedFile(HashedFile&& other) noexcept;
  HashedFile& operator=(HashedFile&&) = delete;
  ~HashedFile();

  Status write(std::span<const std::byte> bytes);
  Result<FileSum> close();

 private:
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  HashedFile(Path path, int fd);
  Path path_;
  int fd_;
  std::int64_t bytes_ = 0;
  std::unique_ptr<XXH3_state_t, FreeState> hash_;
};

Result<FileSum> write_hashed(const Path& path, std::string_view text);

Status write_manifest(const Path& folder, const std::vector<FileSum>& files);
// Fails unless every file is in `folder` itself and listed once.
Result<std::vector<FileSum>> read_manifest(const Path& folder);

// Checks that the files of the manifest exist with their sizes.
Status check_files(const Path& folder);
// Checks their bytes too, and so reads all of them.
Status verify_files(const Path& folder);

}  // namespace memo::store
