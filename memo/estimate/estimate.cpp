// Chooses the plan's strategy, and adds up time and memory around the simulated micro-batch.
#include "memo/estimate/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "memo/base/text.h"
#include "memo/estimate/profile.h"
#include "memo/estimate/run_sizes.h"
#include "memo/planner/dominant.h"
#include "memo/planner/planner.h"

namespace memo::estimate {
namespace {

// Factor between bytes that PyTorch's caching allocator reserves and bytes allocated, while there is room.
constexpr double caching = 1.06;

std::string planner_strategy(const Setup& setup) {
  if (setup.by_alpha()) return "memo-alpha";
  if (setup.offload_all) return "memo";
  if (setup.recompute != Recompute::full) return "resident";
  return setup.offload_inputs ? "offload" : "recompute";
}

Bytes times(Bytes bytes, double k) { return Bytes(static_cast<std::int64_t>(static_cast<double>(bytes.value()) * k)); }

// Time of a plan's calls by cause; reruns count as recomputation.
StepSplit split_of(const Modelled& modelled, const plan::Plan& plan) {
  StepSplit sum;
  for (const plan::Call& call : plan.program.calls) {
    const Split& split = modelled.splits[call.trace];
    if (call.phase == plan::Phase::rerun) {
      sum.reruns += split.total();
      continue;
    }
    if (const model::Stage stage = modelled.profile.flow.segments[call.segment].stage;
        stage == model::Stage::update || stage == model::Stage::optimizer) {
      sum.update += split.total();
      continue;
    }
    sum.attention += split.attention, sum.matmul += split.matmul, sum.memory += split.memory;
    sum.collectives += split.collective;
  }
  sum.stalls = plan.predicted.stall.value() / plan.sequences;
  return sum;
}

void multiply(StepSplit& split, double k) {
  for (double* part : {&split.attention, &split.matmul, &split.memory, &split.reruns, &split.collectives, &split.stalls,
                       &split.bubble, &split.update})
    *part *= k;
}

Result<Estimate> estimate_as(const Setup& setup, bool any_plan) {
  Estimate result;
  const bool planned = setup.execution == Execution::blocks || setup.by_alpha();
  result.device_limit = setup.hardware.memory;
  const Bytes runtime = setup.hardware.runtime;
  const Bytes room = result.device_limit - runtime;
  const Modelled modelled = model_profile(setup);
  const std::string strategy = planner_strategy(setup);
  planner::Request request;
  request.strategy = strategy;
  request.any_plan = any_plan;
  if (setup.as_run()) request.sequences = setup.micro_batches;
  // Two rounding buffers, each of a layer's size.
  if (setup.by_alpha()) request.slots = 2 * modelled.profile.flow.blocks();
  if (strategy == "memo") request.device_limit = room;
  Result<plan::Plan> plan = planner::make_plan(modelled.profile, request);
  if (!plan) {
    if (plan.error().kind != ErrorKind::infeasible) return tl::unexpected<Error>(std::move(plan).error());
    result.reason = plan.error().message;
    return result;
  }

  const Degrees& degrees = setup.degrees;
  const int in_flight = std::min(degrees.pipeline, setup.micro_batches);
  const auto holds = [&](const plan::Plan& at_peak) {
    result.allocated = at_peak.predicted.device_peak;
    result.kinds = planner::kinds_at_peak(at_peak.profile, at_peak.program);
    result.reason = planner::dominant(result.kinds);
  };
  if (in_flight > 1) {  // the first stage of a pipeline
    MEMO_TRY(const plan::Plan deep, planner::make_plan(model_profile(setup, in_flight).profile, request));
    holds(deep);
  } else {
    holds(*plan);
  }
  const Bytes least = result.allocated + runtime;  // near the limit, the allocator gives spare memory back
  result.reserved = times(result.allocated, planned ? 1 : caching) + runtime;
  if (least <= result.device_limit) result.reserved = std::min(result.reserved, result.device_limit);
  const Bytes on_host = (plan->program.tier_bytes.empty() ? Bytes(0) : plan->program.tier_bytes[0]);
  result.host_per_node =
      (on_host + modelled.host_state) * std::int64_t{std::min(setup.gpus, setup.hardware.gpus_per_node)};
  result.fits = least <= result.device_limit && result.host_per_node <= setup.hardware.host_memory;
  if (least > result.device_limit)
    result.reason = fmt::format("{} are over the device's {}: {}", format_bytes(least),
                                format_bytes(result.device_limit), result.reason);
  else if (!result.fits)
    result.reason = fmt::format("{} are over a node's {} of host memory", format_bytes(result.host_per_node),
                                format_bytes(setup.hardware.host_memory));

  result.split = split_of(modelled, *plan);
  double micro = plan->predicted.step.value() / plan->sequences;
  if (setup.recompute == Recompute::selective) {  // every other product is computed twice
    constexpr double share = 0.5 / 3;             // share of products' time, a third of which is forward
    const double again = share * result.split.matmul;
    result.split.reruns += again;
    micro += again;
  }
  const double update = std::exchange(result.split.update, 0);  // once for all micro-batches
  multiply(result.split, setup.micro_batches);
  // 1F1B: a rank waits while the pipeline fills and drains; virtual stages shorten this (Narayanan et al., SC 2021).
  result.split.bubble = micro * (degrees.pipeline - 1) / degrees.stages;
  result.split.update = update + modelled.once_a_step;
  result.step = Seconds(micro * setup.micro_batches + result.split.bubble + modelled.once_a_step);

  const double sequences = static_cast<double>(setup.global_batch());
  const double tokens = sequences * static_cast<double>(setup.context.value());
  result.tokens_per_second_gpu = tokens / result.step.value() / setup.gpus;
  const double available = result.step.value() * setup.gpus * setup.hardware.peak;
  result.mfu_causal = sequences * model::model_flops(setup.shape, setup.context, true) / available;
  result.mfu_full = sequences * model::model_flops(setup.shape, setup.context, false) / available;
  return result;
}

}  // namespace

Result<Estimate> estimate(const Setup& setup, bool any_plan) {
  MEMO_CHECKED(check_setup(setup));
  Result<Estimate> found = estimate_as(setup, any_plan);
  const auto no_plan = [&] { return found && found->step == Seconds(0); };
  if (!setup.as_run() || !no_plan()) return found;
  for (const Setup& next : finer(setup)) {
    Result<Estimate> other = estimate_as(next, any_plan);
    if (!other || other->step > Seconds(0)) return other;
  }
  return found;
}

}  // namespace memo::estimate
