// Whether a checkpoint is of this job: by the keys of job.toml, the model's shape and the tokens of the data.
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

using Note = std::function<void(const std::string&)>;  // a line that the user is to know

class JobIdentity {
 public:
  // `plan` and `device` are what the job has chosen where it says "auto". Reads the data; keeps `shape` and `data`.
  JobIdentity(job::Job job, const plan::Plan& plan, const Device& device, const model::Shape& shape,
              const corpus::Dataset& data);

  // Puts keys and data into what a checkpoint says of itself.
  void write(store::CheckpointState& about) const;
  // `about` is of the checkpoint in `folder`. An error when it is of another job, which names each difference; else a
  // note for each change by which the run goes on with other numbers than it would have.
  Status check(const store::CheckpointState& about, const Path& folder, const Note& note) const;

 private:
  struct Change {
    std::string key, before, now, place;  // where `now` is from
    job::AtResume at_resume;
  };
  [[nodiscard]] std::vector<Change> key_changes(const store::CheckpointState& about) const;
  [[nodiscard]] Result<std::vector<Change>> model_changes(const Path& folder) const;
  [[nodiscard]] std::vector<Change> data_changes(const store::CheckpointState& about) const;
  [[nodiscard]] Result<std::string> digest() const;

  job::Job job_;
  std::vector<job::KeyValue> keys_;  // that a checkpoint keeps; no paths, which are the machine's
  const model::Shape& shape_;
  const corpus::Dataset& data_;
  std::vector<store::DataFile> files_;
};

}  // namespace memo::libtorch
