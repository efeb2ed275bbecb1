#include "memo/torch/run_start.h"

#include <fmt/format.h>

#include "memo/torch/weights_io.h"

namespace memo::edge {
namespace {

// A folder without weights is a shape. Weights in another format are not to be replaced by random ones in silence.
Result<bool> has_weights(const Path& folder) {
  std::error_code ignored;
  std::optional<Path> other;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    if (entry.path().string().find(".safetensors") != std::string::npos) return true;
    if (entry.path().filename().string().starts_with("pytorch_model")) other = entry.path();
  }
  if (!other) return false;
  return bad_input(fmt::format("{}: only *.safetensors are read; save the model again with safe_serialization=True",
                               other->string()));
}

}  // namespace

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

Result<CheckpointState> start_state(ModelState& state, const job::Job& job, const JobIdentity& identity,
                                    const Path& run, const Note& note) {
  MEMO_TRY(const std::optional<LatestCheckpoint> latest, latest_checkpoint(run));
  if (latest) {
    const Path& folder = latest->path;
    for (const std::string& damage : latest->damaged)
      note(fmt::format("{}; going on from {}", damage, folder.filename().string()));
    MEMO_TRY(CheckpointState done, read_state(folder));
    MEMO_CHECKED(identity.check(done, folder, note));
    MEMO_CHECKED(load_weights(state, folder));
    MEMO_CHECKED(load_optimizer(state, folder / "state.safetensors"));
    return done;
  }
  MEMO_CHECKED(state.initialise(job.seed));
  if (!job.model.path) return CheckpointState{};
  MEMO_TRY(const bool weights, has_weights(*job.model.path));
  if (weights) MEMO_CHECKED(load_weights(state, *job.model.path));
  return CheckpointState{};
}

}  // namespace memo::edge
