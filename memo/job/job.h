// job.toml as a value: what the user wants (docs/formats.md lists the keys).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::job {

enum class DType { float32, bfloat16 };  // bfloat16: compute and saved tensors; float32 master weights and gradients

struct ModelSource {
  std::optional<Path> path;  // a Hugging Face folder; none: use the sizes below
  std::string family = "llama";
  std::int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0;
  std::optional<bool> tied;  // the LM head shares the embedding's weights
  DType dtype = DType::float32;
};

struct DataSource {
  std::vector<Path> files;           // text, or token ids in *.bin; may be empty for profile and plan
  std::optional<Path> tokenizer;     // tokenizer.json; without one, bytes are the tokens
  std::string bin_dtype = "uint16";  // integers of *.bin files, or "uint32"
  bool documents_apart = false;      // attention and positions stay inside of a document
  std::int64_t end_token = -1;       // ends a document, as the end of a file does; -1: none
};

enum class NotFinite { stop, skip };  // whether a run ends at a loss or gradient norm that is not finite

constexpr int no_checkpoint = -1;  // of checkpoint_every: "never"

struct TrainOptions {
  Tokens context, block;           // block 0: "auto"
  int head_groups = 0;             // 0: "auto"
  std::string attention = "auto";  // a kernel by its name in its device's table
  Tokens loss_tile;                // rows of logits at a time; 0: "auto"
  int batch = 1;                   // sequences a step, one after the other; their gradients add up
  int steps = 1;
  double lr = 3e-4;
  double min_lr_ratio = 0.1;  // share of lr that is reached at the last step (cosine)
  int warmup_steps = 0;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
  double clip = 1.0;  // global norm of gradients; 0: no clipping
  NotFinite not_finite = NotFinite::stop;
  int checkpoint_every = 0;  // steps; 0: only at the end; no_checkpoint: not even then
  [[nodiscard]] bool saves() const { return checkpoint_every != no_checkpoint; }
  int keep_checkpoints = 2;  // how many of the newest stay; 0: all
};

// Whether parameters may be updated before all gradients of a step are there: their common norm is not needed, neither
// to clip nor to decide whether the step is skipped, and no later sequence adds to them.
inline bool early_updates(const TrainOptions& options) {
  return options.clip == 0 && options.batch == 1 && options.not_finite == NotFinite::stop;
}

enum class Checksums { none, disk, all };  // the tiers whose reads are verified

struct MemoryLimits {
  std::string device = "auto";
  Bytes device_limit;        // 0: none
  Bytes host_limit;          // 0: no host tier
  std::optional<Path> disk;  // folder of the disk tier; none: no disk tier
  Bytes disk_limit;          // 0: the folder's free space
  int slots = 0;             // staging slots per swapped class; 0: the plan chooses
  Checksums checksums = Checksums::disk;
  bool encrypt = false;    // encrypt the disk tier, with a key in memory only
  bool core_dumps = true;  // allow core dumps with the process's memory
  Seconds watchdog{120};   // a run ends after so long without progress of a copy or a file
};

struct Job {
  Path file;
  std::uint64_t seed = 1;
  ModelSource model;
  DataSource data;
  TrainOptions train;
  MemoryLimits memory;
  std::map<std::string, std::string> places;  // where each given key was set: "job.toml:14", "--set train.steps=5"
};

// Relative paths are relative to the job's folder. `overrides` are the `key=value` of --set, with dotted keys
// ("train.steps=5"); values are TOML, or bare strings. Errors name the file, line and key, and what was expected.
Result<Job> read_job(const Path& file, const std::vector<std::string>& overrides = {});

// What a changed key means for a run that is resumed.
enum class AtResume {
  free,      // no number changes
  rounding,  // sums are taken in another order from then on; this is noted
  course,    // steps differ from then on; this is noted
  content,   // compared by content: the model's shape, the data's tokens
  same,      // it is another job, and is refused
};

struct KeyValue {
  std::string name, value;  // `name` with dots, `value` as TOML
  AtResume at_resume;
  bool operator==(const KeyValue&) const = default;
};
// Every key of job.toml, in the order of its table.
std::vector<KeyValue> key_values(const Job& job);

// The job with a run's values of the train.* keys that decide in which order sums are taken, where the job leaves them
// to Memo. `keys`: values by name, as `key_values` gives them. A value that is no longer one is left out.
Job as_before(Job job, const std::map<std::string, std::string>& keys);

// Where a key was set, for messages.
std::string place_of(const Job& job, const std::string& key);

}  // namespace memo::job
