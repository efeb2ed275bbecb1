// The two halves of a save: writing now, finishing on a thread.
#include "memo/libtorch/train/saver.h"

#include <fmt/format.h>

#include <functional>
#include <system_error>

#include "memo/libtorch/train/weights_io.h"

namespace memo::libtorch {
namespace {

// Removes the files of a failed save, so that they take no room.
Status removed_unless(Status saved, const Path& folder) {
  std::error_code ignored;
  if (!saved) std::filesystem::remove_all(folder, ignored);
  return saved;
}

Status write_files(ModelState& state, const store::CheckpointState& about, const std::string& config,
                   const Path& folder, const Progress& moved) {
  MEMO_TRY(std::vector<store::FileSum> files, save_weights(state, folder, moved));
  MEMO_TRY(files.emplace_back(), save_optimizer(state, folder / "state.safetensors", moved));
  MEMO_TRY(files.emplace_back(), store::write_hashed(folder / "config.json", config));
  MEMO_TRY(files.emplace_back(), store::write_state(folder, about));
  return store::write_manifest(folder, files);
}

// Runs `work` on a checkpoint under the watchdog.
Status watched(exec::Watchdog* dog, std::int64_t step, const char* what,
               const std::function<Status(const Progress&)>& work) {
  exec::Watchdog::Guard guard(dog, [=] { return fmt::format("the checkpoint of step {} is being {}", step, what); });
  return work([&] { guard.moved(); });
}

}  // namespace

Status CheckpointSaver::save(ModelState& state, const store::CheckpointState& about, const std::string& config) {
  MEMO_CHECKED(wait());
  MEMO_TRY(const Path folder, store::begin_checkpoint(run_, about.step));
  const Status written = watched(dog_, about.step, "written", [&](const Progress& moved) {
    return write_files(state, about, config, folder, moved);
  });
  MEMO_CHECKED(removed_unless(written, folder));
  last_step_ = about.step;
  saving_ = std::async(std::launch::async, [this, folder, step = about.step] {
    return watched(dog_, step, "synced", [&](const Progress& moved) {
      return removed_unless(store::commit_checkpoint(folder, run_, step, keep_last_, moved), folder);
    });
  });
  return {};
}

Status CheckpointSaver::wait() {
  if (!saving_.valid()) return {};
  Status saved = saving_.get();
  if (!saved) last_step_ = -1;
  return saved;
}

}  // namespace memo::libtorch
