// The checkpoints of a run on the disk: each is whole, or not there, whenever the process ends.
//
//   RUN/checkpoint-<step>/    a model folder that transformers opens, and what resuming needs besides
//     config.json, model.safetensors    (or shards and model.safetensors.index.json)
//     state.safetensors                 optimizer moments, float32 master weights
//     state.json                        CheckpointState; "version": 1
//     manifest.json                     the hash of each of these (memo/store/manifest.h)
//   RUN/.checkpoint-<step>.partial/     one that is being written or removed
//   RUN/checkpoint-<step>.aside-<n>/    what was in the way of one, and was not of its run
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/store/manifest.h"

namespace memo::store {

struct DataFile {
  std::string name;
  std::int64_t tokens = 0;
  std::string hash;  // of the tokens, hexadecimal (corpus::Dataset::sums)
  bool operator==(const DataFile&) const = default;
};

struct CheckpointState {
  std::int64_t step = 0;  // number of steps done
  std::uint64_t seed = 0;
  std::vector<double> losses;               // of all steps done; NaN: not finite
  std::vector<std::int64_t> skipped;        // steps that changed nothing
  std::map<std::string, std::string> keys;  // keys of the job that a resumed run is compared by (job::key_values)
  std::vector<DataFile> data;               // data.files
  std::string job_digest;                   // in place of `keys` and `data` in checkpoints from before these were kept
  bool operator==(const CheckpointState&) const = default;
};
Result<FileSum> write_state(const Path& checkpoint, const CheckpointState& state);
Result<CheckpointState> read_state(const Path& checkpoint);

// Makes a new folder to write the checkpoint into. Removes unfinished checkpoints of earlier processes from `run`, so
// only one run at a time may write there.
Result<Path> begin_checkpoint(const Path& run, std::int64_t step);
// Syncs the folder from begin_checkpoint and renames it into place, replacing an older checkpoint of the same step.
// Then removes older checkpoints, so that `keep_last` stay in all (0: keeps all). Refuses a folder that
// check_checkpoint refuses. Removes only checkpoints of the same run, whose losses agree with this checkpoint's. Other
// folders stay; one that has this checkpoint's name is renamed to checkpoint-<step>.aside-<n>.
Status commit_checkpoint(const Path& temporary, const Path& run, std::int64_t step, int keep_last,
                         const Progress& moved);

// Checks that all files of the manifest exist with their sizes, and are of this step. Reads headers of weights, not the
// weights.
Status check_checkpoint(const Path& checkpoint, std::int64_t step);

struct LatestCheckpoint {
  Path path;
  std::vector<std::string> damaged;  // what is wrong with newer checkpoints, the newest first
};
// The newest checkpoint that check_checkpoint accepts and whose bytes, all of which are read, are those of its
// manifest. Nothing when `run` has no checkpoint. Fails when all its checkpoints are damaged.
Result<std::optional<LatestCheckpoint>> latest_checkpoint(const Path& run);
// Looks at names alone, not at content.
Result<std::optional<Path>> newest_checkpoint_name(const Path& run);

}  // namespace memo::store
