// What a full disk is for a process: writes that end before all is written.
#pragma once

#include <signal.h>
#include <sys/resource.h>

#include <cstdint>

namespace memo {

// Files may not grow past `bytes` while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::int64_t bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit lower{.rlim_cur = static_cast<rlim_t>(bytes), .rlim_max = old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &lower);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  sighandler_t old_handler_;
  rlimit old_{};
};

}  // namespace memo
