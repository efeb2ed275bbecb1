// Checks that a run may begin or go on in a folder, and keeps other runs out of it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "memo/job/job.h"

namespace memo::libtorch {

// Allows one run at a time in a folder: the lock is held while this lives, and released however the process ends. Where
// the file system has no locks (flock), every run is allowed.
class RunLock {
 public:
  static Result<RunLock> take(const Path& run);
  RunLock(RunLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RunLock& operator=(RunLock&&) = delete;
  ~RunLock();

 private:
  explicit RunLock(int fd) : fd_(fd) {}
  int fd_;  // the folder
};

// An error when a run of `job` cannot begin in `run`, or cannot go on there with `resume`: the folder cannot be made or
// written, another run is at work in it, or it holds something that would be lost, such as a run that is not to be
// resumed, a run without its checkpoints, or files that belong to no run. Makes nothing.
Status check_run_folder(const Path& run, const job::Job& job, bool resume);

// The same check for the folder of a comparison; there, none of `names` may exist.
Status check_comparison_folder(const Path& folder, const std::vector<std::string>& names);

}  // namespace memo::libtorch
