// Writes, syncs, renames, verifies and removes checkpoints.
#include "memo/store/checkpoint_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "memo/base/python_json.h"
#include "memo/store/folder.h"
#include "memo/store/manifest.h"
#include "memo/store/safetensors.h"

namespace memo::store {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::int64_t sync_piece = std::int64_t{64} << 20;

Path place(const Path& run, std::int64_t step) { return run / fmt::format("checkpoint-{}", step); }
Path partial_place(const Path& run, std::int64_t step) { return run / fmt::format(".checkpoint-{}.partial", step); }
Path aside(const Path& run, std::int64_t step, int n) { return run / fmt::format("checkpoint-{}.aside-{}", step, n); }

tl::unexpected<Error> failed(const Path& path, const char* doing, const std::error_code& error) {
  return run_time_error(fmt::format("{}: cannot {}: {}", path.string(), doing, error.message()));
}

// The step in a name that `of_step` has made.
template <class Name>
std::optional<std::int64_t> step_of(const std::string& name, const Name& of_step) {
  const std::size_t digits = name.find_first_of("0123456789");
  if (digits == std::string::npos) return std::nullopt;
  std::int64_t step = 0;
  const auto [rest, error] = std::from_chars(name.data() + digits, name.data() + name.size(), step);
  if (error != std::errc() || name != of_step("", step).string()) return std::nullopt;
  return step;
}

Result<std::vector<Path>> entries(const Path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return std::vector<Path>();
  std::vector<Path> paths = paths_in(folder, error);
  if (error) return failed(folder, "list", error);
  return paths;
}

Result<std::map<std::int64_t, Path>> checkpoints(const Path& run) {
  MEMO_TRY(const std::vector<Path> paths, entries(run));
  std::map<std::int64_t, Path> found;
  for (const Path& path : paths)
    if (const auto step = step_of(path.filename().string(), place)) found.emplace(*step, path);
  return found;
}

Status remove_folder(const Path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  return error ? failed(folder, "remove", error) : Status();
}

Status remove_partial(const Path& run) {
  MEMO_TRY(const std::vector<Path> paths, entries(run));
  for (const Path& path : paths)
    if (step_of(path.filename().string(), partial_place)) MEMO_CHECKED(remove_folder(path));
  return {};
}

// Writes a file's bytes through to the disk, a piece at a time, so that progress shows; or a folder's list of names.
Status sync_path(const Path& path, const Progress& moved) {
  const auto failed_to = [&](const char* doing, int error) {
    return run_time_error(fmt::format("{}: cannot {}: {}", path.string(), doing, std::strerror(error)));
  };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed_to("open", errno);
  int error = 0;
  std::error_code no_file;
  const auto size = fs::is_regular_file(path, no_file) ? static_cast<std::int64_t>(fs::file_size(path, no_file)) : 0;
  for (std::int64_t at = 0; at < size && error == 0; at += sync_piece, moved())
    if (::sync_file_range(fd, at, sync_piece,
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0 &&
        errno != ENOSYS && errno != EINVAL)  // some file systems support only fsync
      error = errno;
  if (error == 0 && ::fsync(fd) != 0) error = errno;
  ::close(fd);
  moved();
  return error == 0 ? Status() : failed_to("sync", error);
}

Status sync_all(const Path& folder, const Progress& moved) {
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error))
    MEMO_CHECKED(sync_path(at->path(), moved));
  return error ? failed(folder, "list", error) : sync_path(folder, moved);
}

// If `to` exists, the two exchange their names.
Status move_into_place(const Path& from, const Path& to) {
  std::error_code error;
  const unsigned flags = fs::exists(to, error) ? RENAME_EXCHANGE : 0;
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0) return {};
  return run_time_error(fmt::format("{}: cannot rename into place as {}: {}", from.string(), to.filename().string(),
                                    std::strerror(errno)));
}

// Whether a checkpoint belongs to the run with these losses: both have the same losses up to the shorter one's end.
// False for a folder that is no checkpoint of Memo's or is too damaged to tell.
bool is_of_run(const Path& checkpoint, const std::vector<double>& losses) {
  const Result<CheckpointState> state = read_state(checkpoint);
  if (!state) return false;
  const std::size_t both = std::min(losses.size(), state->losses.size());
  return both > 0 &&
         std::equal(losses.begin(), losses.begin() + static_cast<std::ptrdiff_t>(both), state->losses.begin(),
                    [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); });
}

// Whether a checkpoint has only files that Memo wrote.
bool has_own_files_only(const Path& checkpoint) {
  const Result<std::vector<FileSum>> files = read_manifest(checkpoint);
  const Result<std::vector<Path>> paths = entries(checkpoint);
  return files && paths && std::ranges::all_of(*paths, [&](const Path& path) {
           const std::string name = path.filename().string();
           return name == manifest_name || std::ranges::find(*files, name, &FileSum::name) != files->end();
         });
}

bool may_be_removed(const Path& checkpoint, const std::vector<double>& losses) {
  return is_of_run(checkpoint, losses) && has_own_files_only(checkpoint);
}

Status set_aside(const Path& run, std::int64_t step) {
  std::error_code error;
  int n = 1;
  while (fs::exists(fs::symlink_status(aside(run, step, n), error))) ++n;
  return move_into_place(place(run, step), aside(run, step, n));
}

// Removes the oldest first. A checkpoint loses its name before its files.
Status remove_old(const Path& run, std::int64_t step, int keep_last, const std::vector<double>& losses) {
  MEMO_TRY(auto found, checkpoints(run));
  std::erase_if(found, [&](const auto& entry) { return entry.first >= step || !may_be_removed(entry.second, losses); });
  while (static_cast<int>(found.size()) > keep_last - 1) {
    const auto& [oldest, path] = *found.begin();
    const Path partial = partial_place(run, oldest);
    MEMO_CHECKED(remove_folder(partial));
    MEMO_CHECKED(move_into_place(path, partial));
    MEMO_CHECKED(remove_folder(partial));
    found.erase(found.begin());
  }
  return {};
}

}  // namespace

Result<FileSum> write_state(const Path& checkpoint, const CheckpointState& state) {
  json data = json::array();
  for (const DataFile& file : state.data)
    data.push_back({{"name", file.name}, {"tokens", file.tokens}, {"xxh3", file.hash}});
  const json about{{"version", 1},           {"step", state.step},       {"seed", state.seed}, {"keys", state.keys},
                   {"losses", state.losses}, {"skipped", state.skipped}, {"data", data}};
  // Replaces invalid bytes, since a file's name need not be UTF-8.
  return write_hashed(checkpoint / "state.json", json_text(about) + "\n");
}

Result<CheckpointState> read_state(const Path& checkpoint) {
  const Path path = checkpoint / "state.json";
  MEMO_TRY(const json about, read_json(path));
  try {
    if (about.at("version") != 1)
      return bad_input(
          fmt::format("{}: 'version' is {}; this memo reads version 1", path.string(), json_text(about.at("version"))));
    CheckpointState state;
    // get_ref, since get() would cast a number that is no integer.
    state.step = about.at("step").get_ref<const json::number_integer_t&>();
    state.seed = about.at("seed").get_ref<const json::number_unsigned_t&>();
    if (!about.contains("keys")) {  // written before keys and data were kept
      state.job_digest = about.at("job_digest").get<std::string>();
    } else {
      state.keys = about.at("keys").get<std::map<std::string, std::string>>();
      for (const json& file : about.at("data").get_ref<const json::array_t&>())
        state.data.push_back(
            {file.at("name"), file.at("tokens").get_ref<const json::number_integer_t&>(), file.at("xxh3")});
    }
    for (const json& loss : about.at("losses"))  // null: JSON has no NaN
      state.losses.push_back(loss.is_null() ? std::numeric_limits<double>::quiet_NaN() : loss.get<double>());
    for (const json& step : about.at("skipped").get_ref<const json::array_t&>())
      state.skipped.push_back(step.get_ref<const json::number_integer_t&>());
    return state;
  } catch (const json::exception& error) {
    return bad_input(fmt::format("{}: {}; the file is damaged", path.string(), error.what()));
  }
}

Result<Path> begin_checkpoint(const Path& run, std::int64_t step) {
  MEMO_CHECKED(make_folder(run));
  MEMO_CHECKED(remove_partial(run));
  Path temporary = partial_place(run, step);
  MEMO_CHECKED(make_folder(temporary));
  return temporary;
}

Status commit_checkpoint(const Path& temporary, const Path& run, std::int64_t step, int keep_last,
                         const Progress& moved) {
  MEMO_CHECKED(check_checkpoint(temporary, step));
  MEMO_TRY(const CheckpointState state, read_state(temporary));
  MEMO_CHECKED(sync_all(temporary, moved));
  std::error_code error;
  const bool taken = fs::exists(fs::symlink_status(place(run, step), error));
  if (taken && !may_be_removed(place(run, step), state.losses)) MEMO_CHECKED(set_aside(run, step));
  MEMO_CHECKED(move_into_place(temporary, place(run, step)));
  MEMO_CHECKED(sync_path(run, moved));
  MEMO_CHECKED(remove_folder(temporary));  // the older one of this step, if there was one
  return keep_last > 0 ? remove_old(run, step, keep_last, state.losses) : Status();
}

Status check_checkpoint(const Path& checkpoint, std::int64_t step) {
  MEMO_CHECKED(check_files(checkpoint));
  MEMO_CHECKED(read_python_json(checkpoint / "config.json"));
  MEMO_CHECKED(TensorFiles::open_folder(checkpoint));
  MEMO_CHECKED(TensorFiles::open_file(checkpoint / "state.safetensors"));
  MEMO_TRY(const CheckpointState state, read_state(checkpoint));
  if (state.step == step) return {};
  return bad_input(fmt::format("{}: is of step {}; the checkpoint of step {} was mixed with another",
                               (checkpoint / "state.json").string(), state.step, step));
}

Result<std::optional<LatestCheckpoint>> latest_checkpoint(const Path& run) {
  MEMO_TRY(const auto found, checkpoints(run));
  LatestCheckpoint latest;
  for (auto at = found.rbegin(); at != found.rend(); ++at) {
    Status whole = check_checkpoint(at->second, at->first);
    if (whole) whole = verify_files(at->second);
    if (whole) {
      latest.path = at->second;
      return latest;
    }
    latest.damaged.push_back(whole.error().message);
  }
  if (found.empty()) return std::nullopt;
  return bad_input(fmt::format("{}: no checkpoint is whole; the last one: {}", run.string(), latest.damaged.front()));
}

Result<std::optional<Path>> newest_checkpoint_name(const Path& run) {
  MEMO_TRY(const auto found, checkpoints(run));
  return found.empty() ? std::nullopt : std::optional(found.rbegin()->second.filename());
}

}  // namespace memo::store
