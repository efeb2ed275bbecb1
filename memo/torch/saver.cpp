#include "memo/torch/saver.h"

#include <system_error>

#include "memo/torch/weights_io.h"

namespace memo::edge {
namespace {

// What could not be saved leaves its room to others.
Status removed_unless(Status saved, const Path& folder) {
  std::error_code ignored;
  if (!saved) std::filesystem::remove_all(folder, ignored);
  return saved;
}

Status write_files(ModelState& state, const CheckpointState& about, const std::string& config, const Path& folder) {
  MEMO_TRY(std::vector<FileSum> files, save_weights(state, folder));
  MEMO_TRY(files.emplace_back(), save_optimizer(state, folder / "state.safetensors"));
  MEMO_TRY(files.emplace_back(), write_hashed(folder / "config.json", config));
  MEMO_TRY(files.emplace_back(), write_state(folder, about));
  return write_manifest(folder, files);
}

}  // namespace

Status CheckpointSaver::save(ModelState& state, const CheckpointState& about, const std::string& config) {
  MEMO_CHECKED(wait());
  MEMO_TRY(const Path folder, begin_checkpoint(run_, about.step));
  MEMO_CHECKED(removed_unless(write_files(state, about, config, folder), folder));
  last_step_ = about.step;
  saving_ = std::async(std::launch::async, [folder, run = run_, step = about.step, keep = keep_last_] {
    return removed_unless(commit_checkpoint(folder, run, step, keep), folder);
  });
  return {};
}

Status CheckpointSaver::wait() {
  if (!saving_.valid()) return {};
  Status saved = saving_.get();
  if (!saved) last_step_ = -1;
  return saved;
}

}  // namespace memo::edge
