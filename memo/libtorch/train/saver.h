// Saves checkpoints while the following steps run.
#pragma once

#include <cstdint>
#include <future>
#include <string>

#include "memo/exec/watchdog.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/store/checkpoint_files.h"

namespace memo::libtorch {

// A checkpoint's snapshot is its files: `save` writes them without waiting for the disk. This costs a copy into the
// kernel's page cache, and only one tensor's memory in the process. A thread then syncs, checks and names the files,
// and removes older checkpoints, while the next steps run. One checkpoint is saved at a time.
class CheckpointSaver {
 public:
  // `keep_last`: how many checkpoints stay in `run` (0: all). `dog`, if any, watches whether the disk accepts the
  // writes.
  CheckpointSaver(Path run, int keep_last, exec::Watchdog* dog)
      : run_(std::move(run)), keep_last_(keep_last), dog_(dog) {}

  // Waits for the previous save first, and returns its failure if it failed. `config`: the text of config.json. `state`
  // may change when this returns.
  Status save(ModelState& state, const store::CheckpointState& about, const std::string& config);
  // Waits until the last checkpoint has its name or has failed. Returns each failure once. A failed save leaves no
  // files.
  Status wait();
  // The step of the last save that was begun and is not known to have failed; -1: none.
  [[nodiscard]] std::int64_t last_step() const { return last_step_; }

 private:
  const Path run_;
  const int keep_last_;
  exec::Watchdog* const dog_;
  std::int64_t last_step_ = -1;
  std::future<Status> saving_;  // its destructor waits
};

}  // namespace memo::libtorch
