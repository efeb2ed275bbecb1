// Chooses the session and the source of the state, in the order of run_start.h.
#include "memo/libtorch/train/run_start.h"

#include <fmt/format.h>

#include "memo/libtorch/train/weights_io.h"
#include "memo/store/model_folder.h"

namespace memo::libtorch {

Result<std::unique_ptr<Session>> open_session(const job::Job& job, const plan::Plan& plan, const model::Shape& shape,
                                              Device& device, const Guards& guards, const Replan& replan,
                                              const Note& note) {
  auto session = Session::open(plan, shape, job, device, guards);
  if (session || session.error().kind != ErrorKind::run_time || !replan || !job.memory.disk) return session;
  std::error_code error;
  const std::filesystem::space_info room = std::filesystem::space(*job.memory.disk, error);
  for (const Bytes bytes : {Bytes(error ? 0 : static_cast<std::int64_t>(room.available / 10 * 9)), Bytes(0)}) {
    Result<plan::Plan> smaller = replan(bytes);
    if (!smaller) continue;
    auto other = Session::open(*std::move(smaller), shape, job, device, guards);
    if (!other) continue;
    note(fmt::format("{}; the run goes on with {}: degraded", session.error().message,
                     bytes > Bytes(0) ? "a smaller tier" : "no tier"));
    return other;
  }
  return session;
}

Status check_model(const job::Job& job) {
  if (!job.model.path) return {};
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  MEMO_TRY(const bool weights, store::has_weights(*job.model.path));
  return weights ? check_weights(shape, *job.model.path) : Status();
}

Result<store::CheckpointState> start_state(ModelState& state, const job::Job& job, const JobIdentity& identity,
                                           const Path& run, const Note& note) {
  MEMO_TRY(const std::optional<store::LatestCheckpoint> latest, store::latest_checkpoint(run));
  if (latest) {
    const Path& folder = latest->path;
    for (const std::string& damage : latest->damaged)
      note(fmt::format("{}; going on from {}", damage, folder.filename().string()));
    MEMO_TRY(store::CheckpointState done, store::read_state(folder));
    MEMO_CHECKED(identity.check(done, folder, note));
    MEMO_CHECKED(load_weights(state, folder, note));
    MEMO_CHECKED(load_optimizer(state, folder / "state.safetensors"));
    return done;
  }
  MEMO_CHECKED(state.initialise(job.seed));
  if (!job.model.path) return store::CheckpointState{};
  MEMO_TRY(const bool weights, store::has_weights(*job.model.path));
  if (weights) {
    MEMO_CHECKED(load_weights(state, *job.model.path, note));
  } else {
    note(fmt::format("{}: holds no weights; training begins with random ones (seed {})", job.model.path->string(),
                     job.seed));
  }
  return store::CheckpointState{};
}

}  // namespace memo::libtorch
