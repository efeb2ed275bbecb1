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
  std::string hash;  // of corpus::Dataset::sums, hexadecimal
  bool operator==(const DataFile&) const = default;
};

struct CheckpointState {
  std::int64_t step = 0;  // steps done
  std::uint64_t seed = 0;
  std::vector<double> losses;               // of all steps done; NaN: not finite
  std::vector<std::int64_t> skipped;        // steps that changed nothing
  std::map<std::string, std::string> keys;  // of the job, those that a run that goes on asks for (job::key_values)
  std::vector<DataFile> data;               // data.files
  std::string job_digest;                   // instead of `keys` and `data`, of a checkpoint from before they were kept
  bool operator==(const CheckpointState&) const = default;
};
Result<FileSum> write_state(const Path& checkpoint, const CheckpointState& state);
Result<CheckpointState> read_state(const Path& checkpoint);

// A new folder to write the checkpoint into. Removes what earlier processes left unfinished in `run`, so one run at a
// time writes there.
Result<Path> begin_checkpoint(const Path& run, std::int64_t step);
// Syncs the folder that begin_checkpoint gave and renames it into place, instead of an older checkpoint of the same
// step if there is one; then removes all but this and the newest before it, `keep_last` in all (0: keeps all). Refuses
// a folder that check_checkpoint refuses. What is removed is of the same run: its losses are those of this checkpoint.
// Anything else stays, and where it has this one's name it is renamed to checkpoint-<step>.aside-<n>.
Status commit_checkpoint(const Path& temporary, const Path& run, std::int64_t step, int keep_last,
                         const Progress& moved);

// All files of the manifest are there with their sizes (headers are read, not weights), and of one step.
Status check_checkpoint(const Path& checkpoint, std::int64_t step);

struct LatestCheckpoint {
  Path path;
  std::vector<std::string> damaged;  // what is wrong with newer ones, the newest first
};
// The last one that check_checkpoint accepts and whose bytes are those of its manifest: all are read. Nothing when
// `run` has none at all. Fails when it has some, all damaged.
Result<std::optional<LatestCheckpoint>> latest_checkpoint(const Path& run);
// Looks at names alone.
Result<std::optional<Path>> newest_checkpoint_name(const Path& run);

}  // namespace memo::store
