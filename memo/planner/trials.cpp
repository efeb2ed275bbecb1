// One trial: the program, its timeline, and the comparison with the best so far.
#include "memo/planner/trials.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "memo/base/text.h"
#include "memo/planner/dominant.h"

namespace memo::planner {

Trials::Tried Trials::consider(const std::string& name, const Placement& placement, const Pace& pace) {
  const Tried tried = try_one(placement, pace);
  auto kind = std::ranges::find(considered_, name, &plan::Considered::name);
  if (kind == considered_.end()) kind = considered_.insert(kind, {name, tried.peak, Seconds(tried.seconds)});
  const bool better = tried.fits ? kind->step == Seconds(0) || tried.seconds < kind->step.value()
                                 : kind->step == Seconds(0) && tried.peak < kind->device_peak;
  if (better) *kind = {name, tried.peak, Seconds(tried.seconds)};
  return tried;
}

Trials::Tried Trials::try_one(const Placement& asked, Pace pace) {
  pace.early_updates = request_.early_updates;
  pace.one_sequence = request_.sequences == 1;
  const Placement placement = without_idle_inputs(asked, profile_);
  Candidate candidate{placement, pace, build_program(profile_, placement.classes, pace), {}};
  Tried result;
  result.peak = candidate.built.program.arena;
  if (!smallest_ || result.peak < smallest_->program.arena) smallest_ = candidate.built;
  if (!fits(result.peak)) return result;
  for (std::size_t t = 0; t < profile_.tiers.size(); ++t)
    if (const Bytes needs = candidate.built.program.tier_bytes[t]; needs > profile_.tiers[t].capacity) {
      if (tier_short_ < 0 || needs < tier_needs_) tier_short_ = static_cast<int>(t), tier_needs_ = needs;
      result.over_tier = needs - profile_.tiers[t].capacity;
      return result;
    }
  candidate.timeline = sim::simulate(profile_, candidate.built.program);
  const auto better = [](const Candidate& a, const Candidate& b) {
    const double x = a.timeline.step.value(), y = b.timeline.step.value();
    if (std::abs(x - y) > 2e-3 * y) return x < y;
    return a.built.program.arena < b.built.program.arena;
  };
  result.fits = true;
  result.seconds = candidate.timeline.step.value();
  if (!best_ || better(candidate, *best_)) best_ = std::move(candidate);
  return result;
}

Seconds Trials::compute_alone() const {
  Seconds sum;
  for (const plan::Call& call : best_->built.program.calls)
    if (call.phase != plan::Phase::rerun) sum += profile_.traces[call.trace].seconds;
  return sum;
}

double Trials::slowdown() const { return best_->timeline.step.value() / compute_alone().value(); }

Result<plan::Plan> Trials::finish() {
  if (!best_) return infeasible();
  const Seconds alone = compute_alone();
  plan::Plan plan;
  plan.strategy = request_.strategy;
  plan.device_limit = request_.device_limit;
  plan.slots = best_->pace.slots;
  plan.sequences = request_.sequences;
  plan.profile = profile_;
  plan.placement = best_->placement.classes;
  plan.considered = considered_;
  plan.program = std::move(best_->built.program);
  predict(plan, alone);
  return plan;
}

// Calls before the update run for each sequence, the others once.
void Trials::predict(plan::Plan& plan, Seconds alone) const {
  const sim::Timeline& once = best_->timeline;
  const int more = request_.sequences - 1;
  const plan::CallIndex update = plan::update_begin(profile_.flow, plan.program);
  Seconds update_step, update_alone;
  if (update < plan.program.calls.end_index()) update_step = once.step - Seconds(once.calls[at(update.value())].start);
  for (plan::CallIndex k = update; k < plan.program.calls.end_index(); ++k)
    update_alone += profile_.traces[plan.program.calls[k].trace].seconds;

  plan::Prediction& predicted = plan.predicted;
  predicted.device_peak = plan.program.arena;
  predicted.device_lower_bound = best_->built.lower_bound;
  predicted.step = once.step * request_.sequences - update_step * more;
  predicted.stall = once.stall * request_.sequences;
  predicted.step_lower_bound = alone * request_.sequences - update_alone * more;
  predicted.placement_gap = best_->placement.gap;
  for (const plan::Copy& copy : plan.program.copies) {
    const Bytes bytes = plan.program.tensors[plan.program.residencies[copy.residency].tensor].bytes;
    Bytes& sum = copy.direction == plan::Direction::out ? predicted.bytes_out : predicted.bytes_in;
    sum += bytes * (copy.at < update ? request_.sequences : 1);
  }
}

tl::unexpected<Error> Trials::infeasible() const {
  const Tokens context = profile_.flow.context;
  if (smallest_ && fits(smallest_->program.arena) && tier_short_ >= 0) {
    const plan::Tier& tier = profile_.tiers[at(tier_short_)];
    return fail(ErrorKind::infeasible,
                fmt::format("strategy {} at context {} needs {} of the {} tier, which has {}: raise its limit",
                            request_.strategy, context.value(), format_bytes(tier_needs_), tier.name,
                            format_bytes(tier.capacity)));
  }
  const Bytes least = smallest_->program.arena;
  return tl::unexpected<Error>(
      {ErrorKind::infeasible,
       fmt::format(
           "strategy {} at context {} does not fit in memory.device_limit = {}: the smallest limit that works is "
           "{} ({} bytes); largest at its peak: {}",
           request_.strategy, context.value(), format_bytes(request_.device_limit), format_bytes(least), least.value(),
           dominant(kinds_at_peak(profile_, smallest_->program))),
       least});
}

}  // namespace memo::planner
