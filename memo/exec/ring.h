// Whole reads and writes of a file, with several requests in flight through io_uring; the caller sleeps in the kernel.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "memo/plan/program.h"

namespace memo::exec {

class Ring {
 public:
  // Where the kernel refuses io_uring (as the usual seccomp profile of containers does), requests go one at a time.
  Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  struct Outcome {
    int error = 0;            // an errno; 0: every byte moved; ENODATA: the file ended first
    std::int64_t offset = 0;  // in the file, of the request that failed
  };
  // Moves `bytes` between the file at `offset` and `memory` (out: to the file). Continues short results and repeats
  // interrupted ones. Nothing is in flight when it returns. Thread-safe: callers take turns.
  Outcome transfer(plan::Direction direction, int fd, std::int64_t offset, std::byte* memory, std::int64_t bytes);

 private:
  std::mutex mutex_;
  io_uring ring_{};
  bool granted_ = false;
};

}  // namespace memo::exec
