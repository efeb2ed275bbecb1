// What every fuzzer shares: the bytes as a file, and what a reader owes to any bytes.
//   scripts/fuzz 60     builds all with Clang's libFuzzer and runs each for its share of 60 seconds
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::fuzz {

// A file in memory with these bytes, as long as this lives.
class File {
 public:
  File(const std::uint8_t* data, std::size_t size) : fd_(::memfd_create("fuzz", 0)) {
    if (fd_ < 0 || ::write(fd_, data, size) != static_cast<ssize_t>(size)) std::abort();
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::close(fd_); }
  [[nodiscard]] Path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

// A folder in memory in which the bytes are the file `name`, until the process ends.
inline Path folder_with(const std::string& name, const std::uint8_t* data, std::size_t size) {
  static const Path folder = [] {
    std::string made = "/dev/shm/memo-fuzz-XXXXXX";
    if (::mkdtemp(made.data()) == nullptr) std::abort();
    static const struct Remove {
      Path folder;
      ~Remove() { std::filesystem::remove_all(folder); }
    } at_end{made};
    return at_end.folder;
  }();
  FILE* file = std::fopen((folder / name).c_str(), "wb");
  if (file == nullptr || std::fwrite(data, 1, size, file) != size || std::fclose(file) != 0) std::abort();
  return folder;
}

// A refusal is one line that says what to do about bad input.
template <class T>
bool accepted(const Result<T>& result) {
  if (result) return true;
  const Error& error = result.error();
  if (error.kind != ErrorKind::bad_input || error.message.empty()) std::abort();
  return false;
}

}  // namespace memo::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
