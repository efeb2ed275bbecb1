// Opens a plan's arena, tiers and streams, and plays the plan's program for each sequence of a step.
#include "memo/libtorch/run/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "memo/base/check.h"
#include "memo/check/validate.h"
#include "memo/exec/tiers.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/saved_tensors.h"
#include "memo/libtorch/model/decoder_segments.h"
#include "memo/libtorch/run/planned_state.h"
#include "memo/libtorch/run/runner.h"
#include "memo/plan/for_job.h"

namespace memo::libtorch {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

struct Session::Impl {
  Impl(plan::Plan given, const model::Shape& shape, const job::Job& job, const AttentionKernel* attention, Device& on,
       Arena mapped, exec::Watchdog* dog, exec::Tiers opened, std::shared_ptr<std::atomic<bool>> failed)
      : plan(std::move(given)),
        device(on),
        arena(std::move(mapped)),
        tiers(std::move(opened)),
        tier_failed(std::move(failed)),
        planned(plan, arena.data(), tiers),
        state(
            shape, job.model.dtype, [this](const StateGroup& group) { return planned.regions(group); }, &planned,
            device.of_tensors()),
        decoder(shape, plan.profile.flow.groups, state.parameters(), plan.profile.loss_tile, attention),
        segments(
            plan.profile.flow, decoder, [this](const StateGroup& group, bool on_host) { update_group(group, on_host); },
            device.of_tensors()),
        options(job.train),
        watched(dog ? exec::watched(*tiers.engine, *dog, plan.program, plan.profile.flow) : nullptr),
        runner(plan, arena.data(), segments, scalar_type(job.model.dtype), &state, device) {}

  // Before the first update on the host, waits for the copies of gradients, which that needs.
  void update_group(const StateGroup& group, bool on_host) {
    if (on_host && !std::exchange(gradients_are_out, true))
      if (const Status drained = tiers.engine->drain(); !drained) throw std::runtime_error(drained.error().message);
    if (!state.accepts(group, options, segments.loss_sum)) return;
    if (on_host) state.bring_gate_to_host();
    state.update(group, options, update, lr);
  }

  plan::Plan plan;
  Device& device;
  Arena arena;
  exec::Tiers tiers;
  std::shared_ptr<std::atomic<bool>> tier_failed;  // in this step
  bool step_failed = false;                        // the last step failed
  bool gradients_are_out = false;                  // in this step, of groups that the host updates
  PlannedState planned;
  ModelState state;
  Decoder decoder;
  DecoderSegments segments;
  job::TrainOptions options;
  std::unique_ptr<exec::CopyEngine> watched;
  Runner runner;
  double lr = 0;
  std::int64_t update = 0;
  Bytes unplanned_peak;
};

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::open(plan::Plan plan, const model::Shape& shape, const job::Job& job,
                                               Device& device, const Guards& guards) {
  install_allocator();
  install_saved_tensor_hooks();
  MEMO_CHECKED(check::must_hold(plan));
  const std::vector<plan::Fixed> wanted = plan::fixed_memory(shape, job.model.dtype);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (i >= plan.profile.fixed.size() || plan.profile.fixed[i].bytes != wanted[i].bytes)
      return bad_input(fmt::format("the plan is for another model: its {} differ; make a new plan", wanted[i].name));
  MEMO_TRY(const AttentionKernel* attention,
           attention_named(attention_kernels(device.of_tensors().type()), plan.profile.attention));
  MEMO_TRY(Arena arena, device.map(plan.program.arena));
  const auto failed = std::make_shared<std::atomic<bool>>(false);
  MEMO_TRY(exec::Tiers tiers, exec::open_tiers(plan, job.memory, device, guards.faults, guards.watchdog, failed));
  for (const plan::OnTier& it : plan.program.on_tier)
    if (tiers.stores[at(it.tier)]->pinned(0, 0) == nullptr)
      return bad_input(
          fmt::format("the plan updates layers on the host, for which the {} tier must be the host's memory "
                      "without checksums: make a new plan",
                      plan.profile.tiers[at(it.tier)].name));
  // In the order of the compute stream, as all that calls read.
  auto impl = run_on(device, [&] {
    return std::make_unique<Impl>(std::move(plan), shape, job, attention, device, std::move(arena), guards.watchdog,
                                  std::move(tiers), failed);
  });
  return std::unique_ptr<Session>(new Session(std::move(impl)));
}

const plan::Plan& Session::plan() const { return impl_->plan; }
ModelState& Session::state() { return impl_->state; }

Result<StepResult> Session::step(const std::vector<Sample>& samples, std::int64_t update, double lr, Watch watch) {
  Impl& s = *impl_;
  exec::CopyEngine& streams = s.watched ? *s.watched : *s.tiers.engine;
  std::optional<exec::CheckedStep> checked;
  if (watch == Watch::order) checked.emplace(s.plan, s.arena.data(), s.runner, streams, s.device.bytes());
  exec::Compute& compute = checked ? checked->compute() : s.runner;
  exec::CopyEngine& copies = checked ? checked->copies() : streams;
  MEMO_CHECK(static_cast<int>(samples.size()) == s.plan.sequences, "a step takes the plan's number of sequences");
  const double start = now();
  const Bytes before = s.device.unplanned().live;
  s.device.reset_unplanned_peak();
  *s.tier_failed = false;
  if (std::exchange(s.step_failed, true)) MEMO_CHECKED(s.planned.rewrite_gradients(s.device.bytes()));
  s.gradients_are_out = false;
  s.update = update;
  s.lr = lr;
  s.device.run([&] {
    s.state.begin_step();
    s.segments.loss_sum.reset();
  });
  s.runner.look_for_not_finite(watch == Watch::numbers);
  StepResult result;
  std::int64_t targets = 0;
  for (const Sample& sample : samples) targets += target_count(sample);
  s.segments.loss_scale = 1.0 / static_cast<double>(targets);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    s.runner.begin_sequence(samples[i], i == 0);
    const plan::Boundary end = i + 1 < samples.size() ? plan::update_begin(s.plan.profile.flow, s.plan.program)
                                                      : s.plan.program.calls.end_index();
    MEMO_TRY(exec::StepReport report,
             exec::run_step(s.plan.program, s.arena.data(), compute, copies, end, s.plan.profile.flow));
    report.step += result.report.step;
    report.stall += result.report.stall;
    report.copy_cpu += result.report.copy_cpu;
    report.bytes_out += result.report.bytes_out;
    report.bytes_in += result.report.bytes_in;
    result.report = std::move(report);
  }
  s.unplanned_peak = std::max(s.unplanned_peak, s.device.unplanned().peak - before);
  s.device.run([&] {
    result.loss = s.state.end_step(s.segments.loss_sum) / static_cast<double>(targets);
    result.gradient_norm = s.state.gradient_norm();
    result.finite = !s.state.refused();
  });
  result.not_finite = s.runner.not_finite();
  result.seconds = Seconds(now() - start);
  if (checked) result.check = checked->report();
  s.step_failed = false;
  return result;
}

bool Session::tier_failed() const { return *impl_->tier_failed; }
bool Session::unchanged() const { return !impl_->state.updated(); }
Bytes Session::device_peak() const { return impl_->arena.resident() + impl_->unplanned_peak; }
std::int64_t Session::departure_count() const { return impl_->runner.departure_count(); }
const std::vector<std::string>& Session::departures() const { return impl_->runner.departures(); }

}  // namespace memo::libtorch
