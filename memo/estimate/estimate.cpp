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
    if (model::changes_parameters(modelled.profile.flow.segments[call.segment].stage)) {
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
    result.least = plan.error().smallest_limit.value_or(Bytes(0));
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

// Whether a plan spends so much on recomputation and waiting that more head groups, whose operands are smaller, may be
// faster.
bool loses(const Estimate& tried) {
  constexpr double worth_trying = 0.03;
  return tried.split.reruns + tried.split.stalls > worth_trying * tried.step.value();
}

}  // namespace

Result<Estimate> estimate(const Setup& setup, bool any_plan) {
  MEMO_CHECKED(check_setup(setup));
  Result<Estimate> found = estimate_as(setup, any_plan);
  if (!found || !setup.as_run()) return found;
  const auto has_plan = [](const Estimate& tried) { return tried.step > Seconds(0); };
  if (has_plan(*found)) {
    const bool may_regroup = planner_strategy(setup) == "memo" && setup.context >= regroups_from;
    if (any_plan || !may_regroup || setup.groups == setup.shape.kv_heads || !loses(*found)) return found;
    MEMO_TRY(Estimate other, estimate_as(finer(setup).front(), any_plan));
    return has_plan(other) && other.step < found->step ? std::move(other) : *std::move(found);
  }
  const Bytes room = found->device_limit - setup.hardware.runtime;
  Bytes before = found->least;
  for (const Setup& next : finer(setup)) {
    const bool halved = next.block < setup.block;
    if (before == Bytes(0)) break;  // it is a tier that is too small, whatever the sizes
    if (any_plan && halved) break;  // small blocks allow a few percent more tokens, and their plans take long
    MEMO_TRY(Estimate other, estimate_as(next, any_plan));
    if (has_plan(other)) return other;
    // What a block takes halves with it; if not even all of that is enough, no smaller block is.
    if (halved && other.least - (before - other.least) > room) break;
    before = other.least;
  }
  return found;
}

}  // namespace memo::estimate
