// memo train: profiles and plans when no plan is given, then trains by the plan.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "memo/base/text.h"
#include "memo/cli/machine.h"
#include "memo/cli/python.h"
#include "memo/cli/tensor_verbs.h"
#include "memo/cli/torch/device.h"
#include "memo/cli/torch/progress.h"
#include "memo/libtorch/train/run_folder.h"
#include "memo/plan/for_job.h"
#include "memo/report/event_file.h"
#include "memo/store/checkpoint_files.h"

namespace memo::cli {
namespace {

// The job with the sizes and the kernel of attention of the run so far, which a new plan of it keeps on the same kind
// of device.
job::Job as_in_run(const job::Job& job, const Path& run, const DeviceHere& device) {
  const Result<std::optional<Path>> name = store::newest_checkpoint_name(run);
  if (!name || !*name) return job;
  const Result<store::CheckpointState> state = store::read_state(run / **name);
  if (!state) return job;
  const auto before = state->keys.find("memory.device");
  const std::string now = device->of_tensors().is_cpu() ? "\"cpu\"" : "\"cuda\"";
  return before != state->keys.end() && before->second == now ? job::as_before(job, state->keys) : job;
}

Result<plan::Plan> find_plan(const TrainOptions& options, const job::Job& job, const DeviceHere& device) {
  if (options.plan) {
    MEMO_TRY(plan::Plan plan, plan::read_plan(*options.plan));
    if (plan.profile.on_paper())
      return bad_input(
          fmt::format("{}: the plan is for {}: nothing was measured, so it cannot run; plan without "
                      "--hardware",
                      *options.plan, plan.profile.device));
    MEMO_CHECKED(plan::check_for_job(plan.profile, job, *options.plan + ": the plan"));
    return plan;
  }
  const bool goes_on = options.resume && !options.profile;
  return plan_job(job, goes_on ? as_in_run(job, options.out, device) : job, options.profile, options.strategy,
                  measure_on(device));
}

// Plans by the same profile, with at most `room` on the disk.
Result<plan::Plan> smaller_plan(const job::Job& job, const plan::Plan& plan, Bytes room) {
  plan::Profile profile = plan.profile;
  for (plan::Tier& tier : profile.tiers)
    if (tier.name == "disk") tier.capacity = std::min(tier.capacity, room);
  std::erase_if(profile.tiers, [](const plan::Tier& tier) { return tier.capacity == Bytes(0); });
  return plan_for(job, profile, "memo");
}

libtorch::CheckSteps check_steps(const std::string& check) {
  if (check == "every") return libtorch::CheckSteps::every;
  return check == "off" ? libtorch::CheckSteps::none : libtorch::CheckSteps::first;
}

std::string against(double measured, double predicted) {
  return predicted > 0 ? fmt::format("{:+.1f} %", 100 * (measured / predicted - 1)) : "";
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

using OnStep = std::function<void(const libtorch::StepLine&)>;

// Calls `next`, and writes each step's figures for TensorBoard. If they cannot be written, a note says so once and the
// run goes on.
OnStep with_events(report::EventFile events, OnStep next) {
  return [file = std::move(events), next = std::move(next), good = true](const libtorch::StepLine& line) mutable {
    next(line);
    if (!good) return;
    const std::array<report::Scalar, 6> scalars{{{"loss", line.loss},
                                                 {"lr", line.lr},
                                                 {"gradient_norm", line.gradient_norm},
                                                 {"seconds", line.seconds.value()},
                                                 {"stall_seconds", line.stall.value()},
                                                 {"tokens_per_second", line.tokens_per_second}}};
    const Status added = file.add(line.step, seconds_since_1970(), scalars);
    good = added.has_value();
    if (!good) say("no more of this run goes to TensorBoard: " + added.error().message);
  };
}

}  // namespace

Status train(const TrainOptions& options, job::Job job) {
  if (!job.memory.core_dumps) MEMO_CHECKED(keep_memory_from_core_dumps());
  MEMO_TRY(const corpus::Dataset data, libtorch::open_data(job, find_python(), say));
  MEMO_CHECKED(libtorch::check_run_folder(options.out, job, options.resume));
  if (!options.resume) MEMO_CHECKED(libtorch::check_model(job));
  std::optional<report::EventFile> events;
  if (options.tensorboard) {
    MEMO_TRY(events, report::EventFile::create(*options.tensorboard, seconds_since_1970()));
  }
  MEMO_TRY(const DeviceHere device, open_device(job));
  if (!options.plan) {
    MEMO_TRY(job, with_device_limit(std::move(job), *device));
  }
  MEMO_TRY(plan::Plan plan, find_plan(options, job, device));
  if (!options.json) say(describe(plan));
  libtorch::TrainRequest request = shown_run(options.out, job, plan);
  request.resume = options.resume;
  if (events) request.on_step = with_events(*std::move(events), std::move(request.on_step));
  request.check = check_steps(options.check);
  request.gradient_digest = !options.no_gradient_digest;
  request.replan = [&](Bytes room) -> Result<plan::Plan> {
    MEMO_TRY(plan, smaller_plan(job, plan, room));
    if (!options.json) say(describe(plan));
    return plan;
  };
  if (options.faults) {
    MEMO_TRY(request.faults, exec::parse_faults(*options.faults));
  }
  MEMO_TRY(const libtorch::Summary s, libtorch::train(job, plan, data, *device, request));
  if (options.json) {
    fmt::print("{}\n", libtorch::summary_json(s));
    return {};
  }
  fmt::print("loss {:.4f} -> {:.4f} in {} steps\n", s.loss_first, s.loss_last, s.steps);
  fmt::print("device peak  predicted {:>12}   measured {:>12}   {}\n", format_bytes(s.device_peak_predicted),
             format_bytes(s.device_peak),
             against(static_cast<double>(s.device_peak.value()), static_cast<double>(s.device_peak_predicted.value())));
  fmt::print("step         predicted {:>12}   measured {:>12}   {}\n", format_seconds(s.step_predicted),
             format_seconds(s.step), against(s.step.value(), s.step_predicted.value()));
  fmt::print("stalls {} a step, {:.0f} tokens/s, departures from the plan: {}{}\n", format_seconds(s.stall),
             s.tokens_per_second, s.departures, s.departures > 0 ? " (first: " + s.first_departure + ")" : "");
  return {};
}

}  // namespace memo::cli
