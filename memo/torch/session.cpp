#include "memo/torch/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "memo/base/check.h"
#include "memo/exec/cpu_copies.h"
#include "memo/exec/tier.h"
#include "memo/plan/for_job.h"
#include "memo/torch/allocator.h"
#include "memo/torch/arena.h"
#include "memo/torch/planned_state.h"
#include "memo/torch/runner.h"
#include "memo/torch/saved_tensors.h"
#include "memo/torch/segments.h"

namespace memo::edge {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

struct Session::Impl {
  Impl(plan::Plan given, const model::Shape& shape, const job::Job& job, Arena mapped,
       std::vector<std::unique_ptr<exec::TierStore>> opened)
      : plan(std::move(given)),
        arena(std::move(mapped)),
        tiers(std::move(opened)),
        stores(addresses(tiers)),
        planned(plan, arena.data(), stores),
        state(
            shape, job.model.dtype, [this](const StateGroup& group) { return planned.regions(group); }, &planned),
        decoder(shape, plan.profile.flow.groups, state.parameters()),
        segments(plan.profile.flow, decoder,
                 [this](const StateGroup& group) { state.update(group, options, step, lr); }),
        options(job.train),
        copies(exec::cpu_copy_engine(stores)),
        runner(plan, arena.data(), segments, scalar_type(job.model.dtype), state) {}

  static std::vector<exec::TierStore*> addresses(const std::vector<std::unique_ptr<exec::TierStore>>& tiers) {
    std::vector<exec::TierStore*> result;
    for (const auto& tier : tiers) result.push_back(tier.get());
    return result;
  }

  plan::Plan plan;
  Arena arena;
  std::vector<std::unique_ptr<exec::TierStore>> tiers;  // none where the plan uses none
  std::vector<exec::TierStore*> stores;
  PlannedState planned;
  ModelState state;
  Decoder decoder;
  Segments segments;
  job::TrainOptions options;
  std::unique_ptr<exec::CopyEngine> copies;
  Runner runner;
  double lr = 0;
  std::int64_t step = 0;
  Bytes heap_peak;
};

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::open(plan::Plan plan, const model::Shape& shape, const job::Job& job) {
  install_allocator();
  install_saved_tensor_hooks();
  if (const auto failures = plan::validate(plan, 1); !failures.empty())
    return bad_input("the plan does not hold (memo check lists all failures): " + failures.front());
  const std::vector<plan::Fixed> wanted = plan::fixed_memory(shape, job.model.dtype);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (i >= plan.profile.fixed.size() || plan.profile.fixed[i].bytes != wanted[i].bytes)
      return bad_input(fmt::format("the plan is for another model: its {} differ; make a new plan", wanted[i].name));
  MEMO_TRY(Arena arena, Arena::map(plan.program.arena));
  std::vector<std::unique_ptr<exec::TierStore>> tiers;
  for (const Bytes bytes : plan.program.tier_bytes) {
    tiers.emplace_back();
    if (bytes == Bytes(0)) continue;
    if (!job.memory.disk) return bad_input("the plan uses a disk tier: set memory.disk to a folder");
    MEMO_TRY(tiers.back(), exec::disk_tier(*job.memory.disk, bytes));
  }
  return std::unique_ptr<Session>(
      new Session(std::make_unique<Impl>(std::move(plan), shape, job, std::move(arena), std::move(tiers))));
}

const plan::Plan& Session::plan() const { return impl_->plan; }
ModelState& Session::state() { return impl_->state; }

Result<StepResult> Session::step(const std::vector<Sample>& samples, std::int64_t step, double lr) {
  Impl& s = *impl_;
  MEMO_CHECK(static_cast<int>(samples.size()) == s.plan.sequences, "a step takes the plan's number of sequences");
  const double start = now();
  const Bytes before = heap_use().live;
  reset_heap_peak();
  s.step = step;
  s.lr = lr;
  s.state.begin_step();
  s.segments.loss_sum = 0;
  StepResult result;
  std::int64_t targets = 0;
  for (const Sample& sample : samples) targets += target_count(sample);
  s.segments.loss_scale = 1.0 / static_cast<double>(targets);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    s.runner.begin_sequence(samples[i], i == 0);
    const std::size_t calls = i + 1 < samples.size()
                                  ? static_cast<std::size_t>(plan::update_begin(s.plan.profile.flow, s.plan.program))
                                  : s.plan.program.calls.size();
    MEMO_TRY(exec::StepReport report, exec::run_step(s.plan.program, s.arena.data(), s.runner, *s.copies, calls));
    report.step += result.report.step;
    report.stall += result.report.stall;
    report.copy_cpu += result.report.copy_cpu;
    report.bytes_out += result.report.bytes_out;
    report.bytes_in += result.report.bytes_in;
    result.report = std::move(report);
  }
  s.heap_peak = std::max(s.heap_peak, heap_use().peak - before);
  result.loss = s.segments.loss_sum / static_cast<double>(targets);
  result.gradient_norm = s.state.gradient_norm();
  result.seconds = Seconds(now() - start);
  return result;
}

Bytes Session::device_peak() const { return impl_->arena.resident() + impl_->heap_peak; }
std::int64_t Session::departure_count() const { return impl_->runner.departure_count(); }
const std::vector<std::string>& Session::departures() const { return impl_->runner.departures(); }

}  // namespace memo::edge
