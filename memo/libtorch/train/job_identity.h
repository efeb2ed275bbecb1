// Decides whether a checkpoint is of this job, by the keys of job.toml, the model's shape and the tokens of the data.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "memo/corpus/dataset.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/model/shape.h"
#include "memo/plan/plan.h"
#include "memo/store/checkpoint_files.h"

namespace memo::libtorch {

using Note = std::function<void(const std::string&)>;  // tells the user a line

class JobIdentity {
 public:
  // `plan` and `device` tell what the job has chosen for "auto". Reads the data; keeps references to `shape` and
  // `data`.
  JobIdentity(job::Job job, const plan::Plan& plan, const Device& device, const model::Shape& shape,
              const corpus::Dataset& data);

  // Adds keys and data to a checkpoint's state.
  void write(store::CheckpointState& about) const;
  // `about` is the state of the checkpoint in `folder`. If it is of another job, the error names each difference.
  // Otherwise, notes each change of a key that makes the run go on with different numbers.
  Status check(const store::CheckpointState& about, const Path& folder, const Note& note) const;

 private:
  struct Change {
    std::string key, before, now, place;  // `place`: the file or option that sets `now`
    job::AtResume at_resume;
  };
  [[nodiscard]] std::vector<Change> key_changes(const store::CheckpointState& about) const;
  [[nodiscard]] Result<std::vector<Change>> model_changes(const Path& folder) const;
  [[nodiscard]] std::vector<Change> data_changes(const store::CheckpointState& about) const;
  [[nodiscard]] Result<std::string> digest() const;

  job::Job job_;
  std::vector<job::KeyValue> keys_;  // keys that a checkpoint keeps: all but paths, which differ between machines
  const model::Shape& shape_;
  const corpus::Dataset& data_;
  std::vector<store::DataFile> files_;
};

}  // namespace memo::libtorch
