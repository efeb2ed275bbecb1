// Where a run begins.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "memo/job/job.h"
#include "memo/libtorch/run/session.h"
#include "memo/libtorch/train/job_identity.h"
#include "memo/libtorch/train/weights_io.h"
#include "memo/model/shape.h"

namespace memo::libtorch {

using Replan = std::function<Result<plan::Plan>(Bytes room)>;  // a plan with at most so much of the slow tier

// By `plan`, or where its tier cannot be had, as on a disk that is full by now, by one of `replan` (none: an error)
// with less of it or without, which is noted.
Result<std::unique_ptr<Session>> open_session(const job::Job& job, const plan::Plan& plan, const model::Shape& shape,
                                              Device& device, const Guards& guards, const Replan& replan,
                                              const Note& note);

// That the job's model folder has the weights of its config.json, or none at all: before anything is measured.
Status check_model(const job::Job& job);

// Fills the state from the newest whole checkpoint in `run`, else from the model's folder, else at random; the steps
// that are done, none without a checkpoint. Notes checkpoints that are damaged, and a folder without weights. An error
// when the checkpoint is of another job.
Result<store::CheckpointState> start_state(ModelState& state, const job::Job& job, const JobIdentity& identity,
                                           const Path& run, const Note& note);

}  // namespace memo::libtorch
