// Saves checkpoints of a run beside the steps that follow.
#pragma once

#include <cstdint>
#include <future>
#include <string>

#include "memo/exec/watchdog.h"
#include "memo/libtorch/model/model_state.h"
#include "memo/store/checkpoint_files.h"

namespace memo::libtorch {

// A checkpoint's snapshot is its files: `save` writes them without waiting for the disk, which costs a copy into the
// kernel's page cache and no memory of the process but one tensor's. Synced, checked and named, and older ones removed,
// on a thread of its own while the next steps run. One checkpoint at a time.
class CheckpointSaver {
 public:
  // `keep_last`: how many stay in `run` (0: all). `dog`, if any, watches whether the disk takes them.
  CheckpointSaver(Path run, int keep_last, exec::Watchdog* dog)
      : run_(std::move(run)), keep_last_(keep_last), dog_(dog) {}

  // `config`: the text of config.json. Ends the save before it first; a failure of that one is this one's. `state` may
  // change when it returns.
  Status save(ModelState& state, const store::CheckpointState& about, const std::string& config);
  // Until the last one has its name, or has failed; a failure is told once. What failed leaves no files.
  Status wait();
  // Of the last one that was begun and has not failed yet; -1: none.
  [[nodiscard]] std::int64_t last_step() const { return last_step_; }

 private:
  const Path run_;
  const int keep_last_;
  exec::Watchdog* const dog_;
  std::int64_t last_step_ = -1;
  std::future<Status> saving_;  // its destructor waits
};

}  // namespace memo::libtorch
