// How a run begins: its session, its model folder, and the state it starts from.
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

using Replan = std::function<Result<plan::Plan>(Bytes room)>;  // makes a plan with at most `room` on the slow tier

// Opens a session of `plan`. Where its tier cannot be had, as on a disk that has become full, opens one of `replan`
// (null: an error) that uses less of the tier or none, and notes it.
Result<std::unique_ptr<Session>> open_session(const job::Job& job, const plan::Plan& plan, const model::Shape& shape,
                                              Device& device, const Guards& guards, const Replan& replan,
                                              const Note& note);

// Checks, before anything is measured, that the job's model folder has all weights of its config.json, or none.
Status check_model(const job::Job& job);

// Fills the state from the newest whole checkpoint in `run`, else from the model's folder, else at random. Returns the
// steps done so far, none without a checkpoint. Notes damaged checkpoints, and a folder without weights. An error when
// the checkpoint is of another job.
Result<store::CheckpointState> start_state(ModelState& state, const job::Job& job, const JobIdentity& identity,
                                           const Path& run, const Note& note);

}  // namespace memo::libtorch
