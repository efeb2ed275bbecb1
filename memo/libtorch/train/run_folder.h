// The folder of a run: whether a run may begin or go on there, and one run at a time.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "memo/job/job.h"

namespace memo::libtorch {

// One run at a time in a folder: held while this lives, and given back however the process ends. Where the file system
// has no locks (flock), nobody is refused.
class RunLock {
 public:
  static Result<RunLock> take(const Path& run);
  RunLock(RunLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RunLock& operator=(RunLock&&) = delete;
  ~RunLock();

 private:
  explicit RunLock(int fd) : fd_(fd) {}
  int fd_;  // of the folder
};

// An error when a run of `job` cannot begin in `run`, or go on where it is to be resumed: the folder cannot be had or
// written, another run is at work there, or what is there is not to be lost: a run that is not to be resumed or whose
// checkpoints are gone, files that are no run's. Makes nothing.
Status check_run_folder(const Path& run, const job::Job& job, bool resume);

// The same of the folder of a comparison, which is to hold none of `names`.
Status check_comparison_folder(const Path& folder, const std::vector<std::string>& names);

}  // namespace memo::libtorch
