#include "memo/torch/trainer.h"

#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "memo/base/text.h"
#include "memo/torch/checkpoint_files.h"
#include "memo/torch/dataset.h"
#include "memo/torch/loss_spike.h"
#include "memo/torch/optimizer.h"
#include "memo/torch/run_files.h"
#include "memo/torch/saver.h"
#include "memo/torch/session.h"
#include "memo/torch/steady_step.h"
#include "memo/torch/weights_io.h"

namespace memo::edge {
namespace {

double median(std::vector<double> values) {
  if (values.size() > 1) values.erase(values.begin());  // the first step pays for fresh pages
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

class Training {
 public:
  Training(const job::Job& job, const TrainRequest& request, const model::Shape& shape, const Dataset& data,
           std::unique_ptr<Session> session)
      : job_(job),
        request_(request),
        shape_(shape),
        data_(data),
        session_(std::move(session)),
        saver_(request.out, job.train.keep_checkpoints) {}

  Result<Summary> run() {
    MEMO_CHECKED(start());  // first: a run that is refused leaves the folder as it is
    MEMO_CHECKED(plan::write_plan(session_->plan(), request_.out / "plan.json"));
    MEMO_TRY(MetricsFile metrics, MetricsFile::open(request_.out, static_cast<std::int64_t>(losses_.size())));
    reset_peak_rss();
    const std::int64_t steps = job_.train.steps;
    for (std::int64_t step = static_cast<std::int64_t>(losses_.size()) + 1; step <= steps; ++step) {
      MEMO_CHECKED(one_step(step, metrics));
      const bool stop = request_.interrupted && request_.interrupted->load() > 0;
      const std::int64_t every = job_.train.checkpoint_every;
      const bool ends = step == steps || stop;
      if (!ends && every > 0 && step % every == 0) save_beside(step);
      if (ends) MEMO_CHECKED(checkpoint(step));
      if (stop && step < steps) {
        MEMO_CHECKED(finish());
        return fail(ErrorKind::interrupted, fmt::format("stopped after step {}, saved in {}; go on with --resume", step,
                                                        request_.out.string()));
      }
    }
    MEMO_CHECKED(finish());
    return summary();
  }

 private:
  // Weights: the newest checkpoint of the run, else the model's folder, else random.
  Status start() {
    MEMO_CHECKED(check_run_folder(request_.out, request_.resume));
    MEMO_TRY(const std::optional<LatestCheckpoint> latest, latest_checkpoint(request_.out));
    ModelState& state = session_->state();
    if (latest) {
      const Path& folder = latest->path;
      for (const std::string& damage : latest->damaged)
        note(fmt::format("{}; going on from {}", damage, folder.filename().string()));
      MEMO_TRY(CheckpointState saved, read_state(folder));
      MEMO_TRY(const std::string digest, job_digest());
      if (saved.job_digest != digest)
        return bad_input(
            fmt::format("{}: is of another job (model, dtype, seed, context or data differ)", folder.string()));
      MEMO_CHECKED(load_weights(state, folder));
      MEMO_CHECKED(load_optimizer(state, folder / "state.safetensors"));
      if (saved.step >= job_.train.steps)
        return bad_input(
            fmt::format("{} has done all {} steps: raise train.steps to go on", request_.out.string(), saved.step));
      losses_ = std::move(saved.losses);
      skipped_ = std::move(saved.skipped);
      saved_ = saved.step;
      return {};
    }
    MEMO_CHECKED(state.initialise(job_.seed));
    if (!job_.model.path) return {};
    MEMO_TRY(const bool weights, has_weights(*job_.model.path));
    return weights ? load_weights(state, *job_.model.path) : Status();
  }

  // A folder without weights is a shape. Weights in another format are not to be replaced by random ones in silence.
  static Result<bool> has_weights(const Path& folder) {
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

  Status one_step(std::int64_t step, MetricsFile& metrics) {
    const std::int64_t context = job_.train.context.value();
    std::vector<Sample> samples;
    for (std::int64_t i = 0; i < job_.train.batch; ++i) {
      const std::int64_t sample = (step - 1) * job_.train.batch + i;
      const std::int64_t first = sample_start(job_.seed, sample, context, data_.tokens());
      samples.push_back(
          make_sample(at::tensor(data_.window(first, context + 1), at::kLong), data_.document_starts(first, context)));
    }
    const double lr = lr_at(job_.train, step);
    const bool first = seconds_.empty();
    const bool check = request_.check == CheckSteps::every || (request_.check == CheckSteps::first && first);
    const auto told = [&](const std::string& line) { note(fmt::format("step {}: {}", step, line)); };
    MEMO_TRY(StepResult result, steady_step(*session_, samples, step - static_cast<std::int64_t>(skipped_.size()), lr,
                                            check ? Watch::order : Watch::nothing, told));
    if (!result.finite) MEMO_CHECKED(skip(step, result));
    const auto spike = loss_spike(losses_, result.loss);
    // JSON has one NaN: resuming gives the same losses.
    losses_.push_back(std::isfinite(result.loss) ? result.loss : std::numeric_limits<double>::quiet_NaN());
    seconds_.push_back(result.seconds.value());
    stalls_.push_back(result.report.stall.value());
    const StepLine line{step,
                        job_.train.steps,
                        result.loss,
                        lr,
                        result.gradient_norm,
                        result.seconds,
                        result.report.stall,
                        static_cast<double>(context * job_.train.batch) / result.seconds.value(),
                        !result.finite,
                        spike.has_value()};
    MEMO_CHECKED(metrics.add(line));
    if (result.check && request_.on_check) request_.on_check(step, *result.check);
    if (request_.on_step) request_.on_step(line);
    if (spike)
      told(fmt::format("the loss of {:.4f} is a spike: steps before had {:.4f}, with a deviation of {:.4f}",
                       result.loss, spike->mean, spike->deviation));
    report_ = std::move(result.report);
    return {};
  }

  // A step that is not finite: an error, with the state before it saved, unless the job skips such steps.
  Status skip(std::int64_t step, const StepResult& result) {
    constexpr std::size_t most_in_a_row = 10;
    const std::string what =
        fmt::format("loss {} and gradient norm {} are not finite{}", result.loss, result.gradient_norm,
                    result.not_finite.empty() ? "" : "; the first that is not: " + result.not_finite);
    const auto in_a_row =
        std::find_if(skipped_.rbegin(), skipped_.rend(), [&, n = step](std::int64_t at) mutable { return at != --n; });
    const bool too_many = static_cast<std::size_t>(in_a_row - skipped_.rbegin()) >= most_in_a_row;
    if (job_.train.not_finite == job::NotFinite::skip && !too_many) {
      note(fmt::format("step {}: {}; it is skipped and changes nothing", step, what));
      skipped_.push_back(step);
      return {};
    }
    return run_time_error(
        fmt::format("step {}: {}; {}lower train.lr, or set train.not_finite = \"skip\", and go on with "
                    "--resume",
                    step, what, keep_last_good()));
  }

  // Saves the state before a step that failed, where it is still there; says what is saved.
  std::string keep_last_good() {
    end_save();
    const auto done = static_cast<std::int64_t>(losses_.size());
    if (session_->unchanged() && done > 0 && done != saved_) (void)checkpoint(done);
    if (saved_ == 0) return {};
    return fmt::format("the state after step {} is saved in {}; ", saved_, request_.out.string());
  }

  // Of what a checkpoint cannot be moved across; steps, limits, strategy and block size may change.
  Result<std::string> job_digest() const {
    MEMO_TRY(std::string text, model::config_text(shape_, job_.model.dtype));
    text += fmt::format("|{}|{}|{}", static_cast<int>(job_.model.dtype), job_.seed, job_.train.context.value());
    if (job_.train.batch > 1) text += fmt::format("|{} sequences", job_.train.batch);
    // Of the data, which may be large: how much it is, and how it begins and ends.
    const std::int64_t tokens = data_.tokens(), some = job_.train.context.value();
    text += fmt::format("|{}", tokens);
    for (const std::int64_t first : {std::int64_t{0}, tokens - some}) {
      const std::vector<std::int64_t> window = data_.window(first, some);
      text += "|" + hex16(fnv1a(window.data(), window.size() * sizeof(std::int64_t)));
    }
    return hex16(fnv1a(text.data(), text.size()));
  }

  Status save(std::int64_t step) {
    const std::optional<Path> like =
        job_.model.path ? std::optional<Path>(*job_.model.path / "config.json") : std::nullopt;
    MEMO_TRY(const std::string config, model::config_text(shape_, job_.model.dtype, like));
    MEMO_TRY(const std::string digest, job_digest());
    return saver_.save(session_->state(), {step, job_.seed, digest, losses_, skipped_}, config);
  }

  // A run does not end because a checkpoint on its way could not be saved: older ones stay.
  void save_beside(std::int64_t step) {
    end_save();
    if (const Status saved = save(step); !saved) note_unsaved(step, saved.error());
  }
  void end_save() {
    const std::int64_t step = saver_.last_step();
    if (const Status saved = saver_.wait(); !saved) return note_unsaved(step, saved.error());
    if (step >= 0) saved_ = step;
  }
  void note_unsaved(std::int64_t step, const Error& error) const {
    note(fmt::format("no checkpoint after step {}: {}; the run goes on, what was saved before stays valid", step,
                     error.message));
  }

  Status checkpoint(std::int64_t step) {
    end_save();
    MEMO_CHECKED(save(step));
    MEMO_CHECKED(saver_.wait());
    saved_ = step;
    return {};
  }

  void note(const std::string& line) const {
    if (request_.on_note) request_.on_note(line);
  }

  Status finish() {
    MEMO_TRY(const std::uint64_t gradients, session_->state().gradient_digest());
    gradient_digest_ = hex16(gradients);
    if (!seconds_.empty()) MEMO_CHECKED(write_timeline(session_->plan(), report_, request_.out / "timeline.json"));
    return write_atomically(request_.out / "summary.json", summary_json(summary()) + "\n");
  }

  Summary summary() const {
    const plan::Plan& plan = session_->plan();
    Summary result;
    result.strategy = plan.strategy;
    result.context = job_.train.context.value();
    result.steps = static_cast<std::int64_t>(losses_.size());
    if (!losses_.empty()) {
      result.loss_first = losses_.front();
      result.loss_last = losses_.back();
    }
    result.loss_digest = hex16(fnv1a(losses_.data(), losses_.size() * sizeof(double)));
    result.grad_digest = gradient_digest_;
    result.device_peak = session_->device_peak();
    result.device_peak_predicted = plan.predicted.device_peak;
    result.step_predicted = plan.predicted.step;
    result.stall_predicted = plan.predicted.stall;
    if (!seconds_.empty()) {
      result.step = Seconds(median(seconds_));
      result.stall = Seconds(median(stalls_));
      result.tokens_per_second = static_cast<double>(result.context * job_.train.batch) / result.step.value();
    }
    result.bytes_out = report_.bytes_out;
    result.bytes_in = report_.bytes_in;
    result.copy_cpu = report_.copy_cpu;
    result.process_peak_rss = peak_rss();
    result.departures = session_->departure_count();
    if (!session_->departures().empty()) result.first_departure = session_->departures().front();
    return result;
  }

  const job::Job& job_;
  const TrainRequest& request_;
  model::Shape shape_;
  const Dataset& data_;
  std::unique_ptr<Session> session_;
  std::vector<double> losses_, seconds_, stalls_;
  std::vector<std::int64_t> skipped_;  // steps
  std::int64_t saved_ = 0;             // the step of the newest checkpoint that is whole; 0: none
  std::string gradient_digest_;
  exec::StepReport report_;
  CheckpointSaver saver_;
};

}  // namespace

Status check_run_folder(const Path& out, bool resume) {
  MEMO_TRY(const std::optional<Path> newest, newest_checkpoint_name(out));
  if (newest && !resume)
    return bad_input(fmt::format("{} holds a run already ({}): go on with --resume, or name another folder",
                                 out.string(), newest->string()));
  return {};
}

Result<Dataset> open_data(const job::Job& job) {
  if (job.data.files.empty()) return bad_input(job.file.string() + ": data.files is empty: name the text to train on");
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  MEMO_TRY(Dataset data, Dataset::open(job.data, shape.vocab));
  MEMO_CHECKED(data.check_context(job.train.context));
  return data;
}

Result<Summary> train(const job::Job& job, const plan::Plan& plan, const Dataset& data, const TrainRequest& request) {
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  const Bytes limit = job.memory.device_limit, peak = plan.program.arena;
  if (limit > Bytes(0) && peak > limit)
    return bad_input(fmt::format("the plan needs {} ({} bytes), over memory.device_limit = {}; plan the job again",
                                 format_bytes(peak), peak.value(), format_bytes(limit)));
  if (plan.sequences != job.train.batch)
    return bad_input(fmt::format("the plan is for {} sequence(s) a step, train.batch is {}; plan the job again",
                                 plan.sequences, job.train.batch));
  if (plan::updates_early(plan.profile.flow, plan.program) && !job::early_updates(job.train))
    return bad_input(
        fmt::format("the plan updates layers before all gradients are there, but train.clip = {} needs their "
                    "norm first; plan the job again",
                    job.train.clip));
  MEMO_CHECKED(make_folder(request.out));
  MEMO_TRY(auto session, Session::open(plan, shape, job, request.guards));
  return Training(job, request, shape, data, std::move(session)).run();
}

}  // namespace memo::edge
