// The loop over steps: what happens before, between and after them, and when one fails.
#include "memo/libtorch/train/trainer.h"

#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "memo/base/median.h"
#include "memo/base/text.h"
#include "memo/corpus/dataset.h"
#include "memo/libtorch/model/optimizer.h"
#include "memo/libtorch/run/session.h"
#include "memo/libtorch/train/loss_spike.h"
#include "memo/libtorch/train/run_files.h"
#include "memo/libtorch/train/run_folder.h"
#include "memo/libtorch/train/saver.h"
#include "memo/libtorch/train/steady_step.h"
#include "memo/libtorch/train/weights_io.h"
#include "memo/store/checkpoint_files.h"

namespace memo::libtorch {
namespace {

// The median without the first step, which pays for fresh pages.
double median_of_later(const std::vector<double>& values) {
  return median(values.size() > 1 ? std::vector(values.begin() + 1, values.end()) : values);
}

class Training {
 public:
  Training(const job::Job& job, const TrainRequest& request, const model::Shape& shape, const corpus::Dataset& data,
           Device& device, const Guards& guards, std::unique_ptr<Session> session)
      : job_(job),
        request_(request),
        shape_(shape),
        data_(data),
        device_(device),
        guards_(guards),
        session_(std::move(session)),
        saver_(request.out, job.train.keep_checkpoints, guards.watchdog) {}

  Result<Summary> run() {
    MEMO_CHECKED(begin());
    reset_peak_rss();
    const std::int64_t steps = job_.train.steps;
    while (done() < steps) {
      if (const Status stepped = one_step(done() + 1); !stepped) {
        MEMO_CHECKED(recover(stepped.error()));
        continue;
      }
      const std::int64_t step = done();
      const bool stop = request_.interrupted && request_.interrupted->load() > 0;
      const std::int64_t every = job_.train.checkpoint_every;
      const bool ends = step == steps || stop;
      if (!ends && every > 0 && step % every == 0) save_beside(step);
      if (ends && job_.train.saves()) MEMO_CHECKED(checkpoint(step));
      if (stop && step < steps) {
        MEMO_CHECKED(finish());
        if (!job_.train.saves())
          return fail(ErrorKind::interrupted,
                      fmt::format("stopped after step {}; nothing is saved, as train.checkpoint_every asks", step));
        return fail(ErrorKind::interrupted, fmt::format("stopped after step {}, saved in {}; go on with --resume", step,
                                                        request_.out.string()));
      }
    }
    MEMO_CHECKED(finish());
    return summary();
  }

 private:
  [[nodiscard]] std::int64_t done() const { return static_cast<std::int64_t>(losses_.size()); }  // number of steps

  Status begin() {
    MEMO_CHECKED(run_on(device_, [&] { return start(); }));  // first, so that a refused run leaves the folder unchanged
    const exec::Watchdog::Guard guard(guards_.watchdog, [] { return "plan.json is being written"; });
    MEMO_CHECKED(plan::write_plan(session_->plan(), request_.out / "plan.json"));
    MEMO_TRY(metrics_, MetricsFile::open(request_.out, done()));
    return {};
  }

  Status start() {
    identity_.emplace(job_, session_->plan(), device_, shape_, data_);
    MEMO_TRY(store::CheckpointState done,
             start_state(session_->state(), job_, *identity_, request_.out, request_.on_note));
    if (done.step == 0 && request_.resume)
      request_.on_note(fmt::format("{} holds no checkpoint: the run begins at its first step", request_.out.string()));
    if (done.step >= job_.train.steps)
      return bad_input(
          fmt::format("{} has done all {} steps: raise train.steps to go on", request_.out.string(), done.step));
    losses_ = std::move(done.losses);
    skipped_ = std::move(done.skipped);
    saved_ = done.step;
    return {};
  }

  // After a step that failed: makes the run go on without the tier that failed, from the state before the step; or
  // saves that state and returns the error.
  Status recover(const Error& error) {
    if (!job_.train.saves()) return tl::unexpected(error);
    const std::string kept = keep_last_good();
    if (!session_->tier_failed()) return tl::unexpected(error);
    const std::string end = kept + "go on with --resume";
    if (!request_.replan) return fail(error.kind, fmt::format("{}; {}", error.message, end));
    Result<plan::Plan> plan = request_.replan(Bytes(0));
    if (!plan) return fail(error.kind, fmt::format("{}; {}; without the tier no plan fits", error.message, end));
    request_.on_note(fmt::format("{}; {}the run goes on without the tier: degraded", error.message, kept));
    session_.reset();
    MEMO_TRY(session_, Session::open(*std::move(plan), shape_, job_, device_, guards_));
    return begin();
  }

  Status one_step(std::int64_t step) {
    const std::int64_t context = job_.train.context.value();
    std::vector<Sample> samples;
    for (std::int64_t i = 0; i < job_.train.batch; ++i) {
      const std::int64_t sample = (step - 1) * job_.train.batch + i;
      const std::int64_t first = corpus::sample_start(job_.seed, sample, context, data_.tokens());
      samples.push_back(
          make_sample(at::tensor(data_.window(first, context + 1), at::kLong), data_.document_starts(first, context)));
    }
    const double lr = lr_at(job_.train, step);
    const bool first = seconds_.empty();
    const bool check = request_.check == CheckSteps::every || (request_.check == CheckSteps::first && first);
    const auto told = [&](const std::string& line) { request_.on_note(fmt::format("step {}: {}", step, line)); };
    MEMO_TRY(StepResult result, steady_step(*session_, samples, step - static_cast<std::int64_t>(skipped_.size()), lr,
                                            check ? Watch::order : Watch::nothing, told));
    if (!result.finite) MEMO_CHECKED(skip(step, result));
    const auto spike = loss_spike(losses_, result.loss);
    // JSON has only one NaN, so all values that are not finite become it: a resumed run then has the same losses.
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
    MEMO_CHECKED(metrics_->add(line));
    if (result.check && request_.on_check) request_.on_check(step, *result.check);
    if (request_.on_step) request_.on_step(line);
    if (spike)
      told(fmt::format("the loss of {:.4f} is a spike: steps before had {:.4f}, with a deviation of {:.4f}",
                       result.loss, spike->mean, spike->deviation));
    report_ = std::move(result.report);
    return {};
  }

  // For a step that is not finite: skips it where the job says so; else saves the state before it and returns an error.
  Status skip(std::int64_t step, const StepResult& result) {
    constexpr std::size_t most_in_a_row = 10;
    const std::string what =
        fmt::format("loss {} and gradient norm {} are not finite{}", result.loss, result.gradient_norm,
                    result.not_finite.empty() ? "" : "; the first that is not: " + result.not_finite);
    const auto in_a_row =
        std::find_if(skipped_.rbegin(), skipped_.rend(), [&, n = step](std::int64_t at) mutable { return at != --n; });
    const bool too_many = static_cast<std::size_t>(in_a_row - skipped_.rbegin()) >= most_in_a_row;
    if (job_.train.not_finite == job::NotFinite::skip && !too_many) {
      request_.on_note(fmt::format("step {}: {}; it is skipped and changes nothing", step, what));
      skipped_.push_back(step);
      return {};
    }
    return run_time_error(fmt::format("step {}: {}; {}lower train.lr, or set train.not_finite = \"skip\", and {}", step,
                                      what, keep_last_good(),
                                      job_.train.saves() ? "go on with --resume" : "begin anew"));
  }

  // Saves the state before a failed step, if it is still intact; returns words about what is saved.
  std::string keep_last_good() {
    if (!job_.train.saves()) return {};
    end_save();
    if (session_->unchanged() && done() > 0 && done() != saved_) (void)checkpoint(done());
    if (saved_ == 0) return {};
    return fmt::format("the state after step {} is saved in {}; ", saved_, request_.out.string());
  }

  Status save(std::int64_t step) {
    const std::optional<Path> like =
        job_.model.path ? std::optional<Path>(*job_.model.path / "config.json") : std::nullopt;
    MEMO_TRY(const std::string config, model::config_text(shape_, job_.model.dtype, like));
    store::CheckpointState about{step, job_.seed, losses_, skipped_, {}, {}, {}};
    identity_->write(about);
    return run_on(device_, [&] { return saver_.save(session_->state(), about, config); });
  }

  // A save that fails does not end the run: older checkpoints stay.
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
    request_.on_note(fmt::format("no checkpoint after step {}: {}; the run goes on, what was saved before stays valid",
                                 step, error.message));
  }

  Status checkpoint(std::int64_t step) {
    end_save();
    MEMO_CHECKED(save(step));
    MEMO_CHECKED(saver_.wait());
    saved_ = step;
    return {};
  }

  Status finish() {
    if (request_.gradient_digest) {
      MEMO_TRY(const std::uint64_t gradients, run_on(device_, [&] { return session_->state().gradient_digest(); }));
      gradient_digest_ = hex16(gradients);
    }
    const exec::Watchdog::Guard guard(guards_.watchdog, [] { return "summary.json is being written"; });
    if (!seconds_.empty()) MEMO_CHECKED(write_timeline(session_->plan(), report_, request_.out));
    return write_run_file(summary_file, request_.out, summary_json(summary()) + "\n");
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
      result.step = Seconds(median_of_later(seconds_));
      result.stall = Seconds(median_of_later(stalls_));
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
  const corpus::Dataset& data_;
  Device& device_;
  const Guards guards_;
  std::unique_ptr<Session> session_;
  std::vector<double> losses_, seconds_, stalls_;
  std::vector<std::int64_t> skipped_;  // numbers of skipped steps
  std::int64_t saved_ = 0;             // the step of the newest whole checkpoint; 0: none
  std::optional<JobIdentity> identity_;
  std::string gradient_digest_;
  std::optional<MetricsFile> metrics_;
  exec::StepReport report_;
  CheckpointSaver saver_;
};

}  // namespace

Result<corpus::Dataset> open_data(const job::Job& job, const Path& python, const Note& note) {
  if (job.data.files.empty()) return bad_input(job.file.string() + ": data.files is empty: name the text to train on");
  MEMO_TRY(const model::Shape shape, model::job_shape(job));
  MEMO_TRY(corpus::Dataset data, corpus::Dataset::open(job.data, shape.vocab, {python, !job.memory.encrypt, note}));
  MEMO_CHECKED(data.check_context(job.train.context));
  return data;
}

Result<Summary> train(const job::Job& job, const plan::Plan& plan, const corpus::Dataset& data, Device& device,
                      const TrainRequest& request) {
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
  MEMO_CHECKED(check_run_folder(request.out, job, request.resume));
  MEMO_CHECKED(make_folder(request.out));
  MEMO_TRY(const RunLock lock, RunLock::take(request.out));
  std::optional<exec::Watchdog> dog;
  if (request.on_stall) dog.emplace(job.memory.watchdog, request.on_stall);
  const Guards guards{dog ? &*dog : nullptr, request.faults};
  MEMO_TRY(auto session, open_session(job, plan, shape, device, guards, request.replan, request.on_note));
  return Training(job, request, shape, data, device, guards, std::move(session)).run();
}

}  // namespace memo::libtorch
