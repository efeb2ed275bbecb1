// Reads off a folder whether it holds a run, and what would be lost.
#include "memo/libtorch/train/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "memo/libtorch/train/run_files.h"
#include "memo/plan/plan.h"
#include "memo/store/checkpoint_files.h"

namespace memo::libtorch {
namespace {

namespace fs = std::filesystem;

// Counts the lines of metrics.jsonl, one for each step; the last may be torn.
std::int64_t steps_in_metrics(const Path& run) {
  std::ifstream in(run / metrics_file.name, std::ios::binary);
  return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
}

// For a folder with steps but without a checkpoint. A run that ended, or went on after its first periodic checkpoint,
// had one.
Status check_without_checkpoint(const Path& run, const job::Job& job, bool resume) {
  std::error_code ignored;
  const bool ended = fs::exists(run / summary_file.name, ignored);
  const std::int64_t steps = steps_in_metrics(run), every = job.train.checkpoint_every;
  if (steps == 0 && !ended) return {};
  // The second checkpoint is begun when the first is whole.
  if (resume && (ended || (every > 0 && steps > 2 * every)))
    return bad_input(fmt::format(
        "{}: a run of {} steps was here, and its checkpoints are gone: put one back, or name another folder",
        run.string(), steps));
  if (resume) return {};
  return bad_input(fmt::format(
      "{}: holds what a run of {} steps left, without a checkpoint: name another folder, or begin anew there with "
      "--resume",
      run.string(), steps));
}

// Takes the lock as the run would, and gives it back.
Status check_lock(const Path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder, ignored)) return {};
  MEMO_CHECKED(RunLock::take(folder));
  return {};
}

}  // namespace

Result<RunLock> RunLock::take(const Path& run) {
  RunLock lock(::open(run.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (lock.fd_ < 0) return run_time_error(fmt::format("{}: cannot open: {}", run.string(), std::strerror(errno)));
  if (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return bad_input(
        fmt::format("{}: another memo writes there; wait for its end, or name another folder", run.string()));
  return lock;
}

RunLock::~RunLock() {
  if (fd_ >= 0) ::close(fd_);
}

Status check_run_folder(const Path& run, const job::Job& job, bool resume) {
  if (resume && !job.train.saves())
    return bad_input(
        fmt::format("{}: train.checkpoint_every is \"never\", so there is nothing to go on from: set it to a "
                    "number of steps, or leave out --resume",
                    job::place_of(job, "train.checkpoint_every")));
  MEMO_CHECKED(check_folder(run));
  MEMO_CHECKED(check_lock(run));
  std::error_code ignored;
  if (fs::exists(run / "config.json", ignored))
    return bad_input(fmt::format("{}: holds a model (config.json); name another folder for the run", run.string()));
  MEMO_CHECKED(check_replaceable(run / "plan.json", plan::plan_kind));
  for (const RunFile& file : {metrics_file, timeline_file, summary_file})
    MEMO_CHECKED(check_replaceable(run / file.name, file.kind));
  MEMO_TRY(const std::optional<Path> newest, store::newest_checkpoint_name(run));
  if (!newest) return check_without_checkpoint(run, job, resume);
  if (resume) return {};
  return bad_input(fmt::format("{} holds a run already ({}): go on with --resume, or name another folder", run.string(),
                               newest->string()));
}

Status check_comparison_folder(const Path& folder, const std::vector<std::string>& names) {
  MEMO_CHECKED(check_folder(folder));
  MEMO_CHECKED(check_lock(folder));
  for (const std::string& name : names) {
    std::error_code ignored;
    if (fs::exists(fs::symlink_status(folder / name, ignored)))
      return bad_input(
          fmt::format("{}: holds '{}' already, which a comparison would replace; name another folder, or "
                      "remove it",
                      folder.string(), name));
  }
  return {};
}

}  // namespace memo::libtorch
