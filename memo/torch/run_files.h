// The files of a run folder other than checkpoints, and the process's peak memory.
#pragma once

#include <utility>

#include "memo/exec/executor.h"
#include "memo/torch/trainer.h"

namespace memo::edge {

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

// metrics.jsonl: one line a step.
class MetricsFile {
 public:
  // Keeps the lines of the first `steps` steps of an earlier run in the folder.
  static Result<MetricsFile> open(const Path& run, std::int64_t steps);
  Status add(const StepLine& line);

 private:
  explicit MetricsFile(Path path) : path_(std::move(path)) {}
  Path path_;
};

// timeline.json: the measured spans of the last step and the predicted ones.
Status write_timeline(const plan::Plan& plan, const exec::StepReport& measured, const Path& path);

// Of this process since the last reset (VmHWM).
void reset_peak_rss();
Bytes peak_rss();

}  // namespace memo::edge
