#include "memo/sim/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "memo/base/text.h"
#include "memo/plan/build.h"
#include "memo/plan/checkpoints.h"
#include "memo/plan/placement.h"
#include "memo/plan/streaming.h"
#include "memo/sim/dominant.h"

namespace memo::sim {
namespace {

using plan::Built;
using plan::Pace;
using plan::Paged;
using plan::Placement;

constexpr int refinements = 4;  // of the budget for kept tensors
constexpr std::size_t paces_refined = 2;
constexpr int corrections = 8;           // of the room on the tier
constexpr int most_layers_together = 8;  // of a checkpoint
constexpr double worth_streaming =
    1.01;  // streamed plans are tried when the best step takes this much more than compute

struct Candidate {
  Placement placement;
  Pace pace;
  Built built;
  Timeline timeline;
};

std::vector<Pace> paces(const Request& request, bool copies) {
  if (!copies) return {{1, false}};
  std::vector<Pace> all;
  for (int slots : {2, 3, 4, 8})
    if (request.slots == 0 || slots == 2)
      for (bool relaxed : {false, true}) all.push_back({request.slots > 0 ? request.slots : slots, relaxed});
  return all;
}

class Search {
 public:
  Search(const plan::Profile& profile, const Request& request) : profile_(profile), request_(request) {}

  Result<plan::Plan> run() {
    const int tier = profile_.tiers.empty() ? -1 : 0;
    const std::string& strategy = request_.strategy;
    if (tier < 0 && (strategy == "offload" || strategy == "memo-alpha"))
      return bad_input(fmt::format("strategy {} needs a tier: set memory.disk to a folder", strategy));
    if (strategy == "resident") try_each_pace(strategy, place_resident(profile_));
    if (strategy == "recompute") try_each_pace(strategy, place_recompute(profile_, -1));
    if (strategy == "offload") try_each_pace(strategy, place_recompute(profile_, tier));
    if (strategy == "memo-alpha") try_each_pace(strategy, place_alpha(profile_, tier));
    if (strategy == "memo") search_memo(tier);
    if (!best_) return infeasible();
    return finish();
  }

 private:
  // A placement that keeps at most so many bytes.
  using Place = std::function<Placement(Bytes budget)>;

  struct Tried {
    Bytes peak;
    bool fits = false;
    double seconds = 0;
  };

  // Builds and plays a candidate; keeps it when it fits and is the fastest so far. `name` is of its kind.
  Tried consider(const std::string& name, const Placement& placement, const Pace& pace) {
    const Tried tried = try_one(placement, pace);
    auto kind = std::ranges::find(considered_, name, &plan::Considered::name);
    if (kind == considered_.end()) kind = considered_.insert(kind, {name, tried.peak, Seconds(tried.seconds)});
    const bool better = tried.fits ? kind->step == Seconds(0) || tried.seconds < kind->step.value()
                                   : kind->step == Seconds(0) && tried.peak < kind->device_peak;
    if (better) *kind = {name, tried.peak, Seconds(tried.seconds)};
    return tried;
  }

  Tried try_one(const Placement& placement, const Pace& pace) {
    tier_over_ = Bytes(0);
    Candidate candidate{placement, pace, build_program(profile_, placement.classes, pace), {}};
    const Bytes peak = candidate.built.program.arena;
    if (!smallest_ || peak < smallest_->program.arena) smallest_ = candidate.built;
    for (std::size_t t = 0; t < profile_.tiers.size(); ++t)
      if (const Bytes needs = candidate.built.program.tier_bytes[t]; needs > profile_.tiers[t].capacity) {
        if (!fits(peak)) return {peak};
        if (tier_short_ < 0 || needs < tier_needs_) tier_short_ = static_cast<int>(t), tier_needs_ = needs;
        tier_over_ = needs - profile_.tiers[t].capacity;
        return {peak};
      }
    if (!fits(peak)) return {peak};
    candidate.timeline = simulate(profile_, candidate.built.program);
    const auto better = [](const Candidate& a, const Candidate& b) {
      const double x = a.timeline.step.value(), y = b.timeline.step.value();
      if (std::abs(x - y) > 2e-3 * y) return x < y;
      return a.built.program.arena < b.built.program.arena;
    };
    const Tried result{peak, true, candidate.timeline.step.value()};
    if (!best_ || better(candidate, *best_)) best_ = std::move(candidate);
    return result;
  }

  bool fits(Bytes peak) const { return request_.device_limit == Bytes(0) || peak <= request_.device_limit; }

  void try_each_pace(const std::string& name, const Placement& placement) {
    const bool copies = std::ranges::any_of(placement.classes, [](const auto& c) { return c.swapped > 0; });
    for (const Pace& pace : paces(request_, copies)) consider(name, placement, pace);
  }

  // Any other strategy is a placement that memo may take. Beyond these: the budget for kept tensors is what the limit
  // leaves over the peak of a plan that keeps nothing; the packed peak then corrects it. That is done at the two paces
  // which served the plan that keeps nothing best.
  void search_memo(int tier) {
    consider("resident", place_resident(profile_), {1, false});
    consider("recompute", place_recompute(profile_, -1), {1, false});
    if (tier >= 0) {
      const Pace usual{request_.slots > 0 ? request_.slots : 2, false};
      consider("offload", place_recompute(profile_, tier), usual);
      // Whatever was measured, so that the smallest limit does not hang on times.
      for (const int slots : {1, 2})
        if (request_.slots == 0 || slots == request_.slots) {
          const Placement all = place_swapped(profile_, tier);
          consider("all swapped", all, {slots, false});
          consider("all streamed", streamed(all, profile_, tier), {slots, false});
        }
      try_each_pace("memo-alpha", place_alpha(profile_, tier));
    }
    if (request_.device_limit == Bytes(0)) {
      try_each_pace("by block", place_optimal(profile_, tier, Bytes(std::int64_t{1} << 60)));
      return;
    }
    search_budgets(
        "by block", [&](Bytes budget) { return optimal(tier, budget); }, tier);
    if (tier >= 0 && (!best_ || best_->timeline.step.value() > worth_streaming * compute_alone().value()))
      search_budgets(
          "by block, streamed", [&](Bytes budget) { return streamed(optimal(tier, budget), profile_, tier); }, tier);
    if (tier < 0 ? !best_ : tier_short_ >= 0) search_checkpoints(tier);
    if (tier >= 0 && !best_) search_paged(tier);
  }

  // The tier, or the device without one, is too small for the inputs of all layers.
  void search_checkpoints(int tier) {
    const int slots = request_.slots > 0 ? request_.slots : 2;
    for (int k = 2; k < profile_.flow.layers && k <= most_layers_together; ++k) {
      const std::string name = fmt::format("{} layers a checkpoint", k);
      consider(name, checkpointed(place_recompute(profile_, -1), profile_, k), {1, false});
      if (tier < 0) continue;
      const Placement all = checkpointed(place_recompute(profile_, tier), profile_, k);
      consider(name, all, {slots, false});
      consider(name, streamed(all, profile_, tier), {slots, false});
    }
  }

  // Nothing fits: parameters leave too, as little of them as will do. What the tier holds of them crosses it more than
  // once a step, so this is the last resort.
  void search_paged(int tier) {
    const int layers = profile_.flow.layers;
    for (const auto& [most, name] : {std::pair(Paged::optimizer, "streamed, optimizer paged"),
                                     std::pair(Paged::gradients, "streamed, gradients paged"),
                                     std::pair(Paged::weights, "streamed, weights paged")})
      for (const int slots : {2, 1}) {
        if (request_.slots > 0 && slots != std::min(request_.slots, 2)) continue;
        const Pace pace{request_.slots > 0 ? request_.slots : slots, false};
        int enough = layers;
        const Place place = [&, kind = most](Bytes budget) {
          return paged(streamed(optimal(tier, budget), profile_, tier), profile_, tier, kind, enough);
        };
        Placement base = streamed(place_swapped(profile_, tier), profile_, tier);
        const auto fits_with = [&, kind = most, kind_name = name](int count) {
          return consider(kind_name, paged(base, profile_, tier, kind, count), pace).fits;
        };
        if (!fits_with(layers)) {
          if (tier_over_ == Bytes(0)) continue;
          fit_tier(name, place, tier, pace);
          base = streamed(optimal(tier, Bytes(0)), profile_, tier);
          if (!fits_with(layers)) continue;
        }
        for (int least = 1; least < enough;) {
          const int middle = (least + enough) / 2;
          fits_with(middle) ? enough = middle : least = middle + 1;
        }
        search_budgets(name, place, tier);
        return;
      }
  }

  Placement optimal(int tier, Bytes budget) const { return place_optimal(profile_, tier, budget, room_); }

  void search_budgets(const std::string& name, const Place& place, int tier) {
    const std::vector<Pace> all_paces = paces(request_, tier >= 0);
    fit_tier(name, place, tier, all_paces.front());
    const Placement nothing_kept = place(Bytes(0));
    std::vector<std::tuple<double, Pace, Bytes>> ranked;
    for (const Pace& pace : all_paces) {
      const Tried base = consider(name, nothing_kept, pace);
      if (base.fits) ranked.emplace_back(base.seconds, pace, base.peak);
    }
    std::ranges::stable_sort(ranked, {}, [](const auto& entry) { return std::get<0>(entry); });
    for (std::size_t i = 0; i < ranked.size() && i < paces_refined; ++i)
      refine(name, place, std::get<2>(ranked[i]), std::get<1>(ranked[i]));
  }

  // A program needs more of the tier than what its placement swaps: its room is corrected by what it was over.
  void fit_tier(const std::string& name, const Place& place, int tier, const Pace& pace) {
    if (tier < 0) return;
    const Bytes capacity = profile_.tiers[static_cast<std::size_t>(tier)].capacity;
    room_ = capacity;
    for (int i = 0; i < corrections; ++i) {
      consider(name, place(Bytes(0)), pace);
      const Bytes less = tier_over_ + capacity / 100;
      if (tier_over_ == Bytes(0) || less >= room_) return;
      room_ -= less;
    }
  }

  void refine(const std::string& name, const Place& place, Bytes base, const Pace& pace) {
    Bytes budget = request_.device_limit - base;
    Bytes too_much = budget * 2 + Bytes(1);
    for (int i = 0; i < refinements && budget > Bytes(0); ++i) {
      const Bytes peak = consider(name, place(budget), pace).peak;
      if (fits(peak)) {
        const Bytes next = std::min(budget + (request_.device_limit - peak), (budget + too_much) / 2);
        if (next - budget < request_.device_limit / 100) break;
        budget = next;
      } else {
        too_much = budget;
        budget -= std::min(budget, peak - request_.device_limit);
      }
    }
  }

  tl::unexpected<Error> infeasible() const {
    const Tokens context = profile_.flow.context;
    if (smallest_ && fits(smallest_->program.arena) && tier_short_ >= 0) {
      const plan::Tier& tier = profile_.tiers[static_cast<std::size_t>(tier_short_)];
      return fail(ErrorKind::infeasible,
                  fmt::format("strategy {} at context {} needs {} of the {} tier, which has {}: raise its limit",
                              request_.strategy, context.value(), format_bytes(tier_needs_), tier.name,
                              format_bytes(tier.capacity)));
    }
    const Bytes least = smallest_->program.arena;
    return fail(
        ErrorKind::infeasible,
        fmt::format("strategy {} at context {} does not fit in memory.device_limit = {}: the smallest limit that "
                    "works is {} ({} bytes); largest at its peak: {}",
                    request_.strategy, context.value(), format_bytes(request_.device_limit), format_bytes(least),
                    least.value(), dominant(profile_, smallest_->program)));
  }

  plan::Plan finish() {
    const Seconds alone = compute_alone();
    plan::Plan plan;
    plan.strategy = request_.strategy;
    plan.device_limit = request_.device_limit;
    plan.slots = best_->pace.slots;
    plan.profile = profile_;
    plan.placement = best_->placement.classes;
    plan.considered = considered_;
    plan.program = std::move(best_->built.program);
    plan::Prediction& predicted = plan.predicted;
    predicted.device_peak = plan.program.arena;
    predicted.device_lower_bound = best_->built.lower_bound;
    const Timeline& once = best_->timeline;
    // What is done for each sequence, and what once.
    const int update = plan::update_begin(profile_.flow, plan.program);
    const double update_seconds =
        once.calls.empty() ? 0 : once.step.value() - once.calls[static_cast<std::size_t>(update)].start;
    Seconds optimizer;
    for (std::size_t k = static_cast<std::size_t>(update); k < plan.program.calls.size(); ++k)
      optimizer += profile_.traces[static_cast<std::size_t>(plan.program.calls[k].trace)].seconds;
    plan.sequences = request_.sequences;
    predicted.step = once.step * request_.sequences - Seconds(update_seconds) * (request_.sequences - 1);
    predicted.stall = once.stall * request_.sequences;
    for (const plan::Copy& copy : plan.program.copies) {
      const int residency = plan.program.residencies[static_cast<std::size_t>(copy.residency)].tensor;
      const Bytes bytes = plan.program.tensors[static_cast<std::size_t>(residency)].bytes;
      Bytes& sum = copy.direction == plan::Direction::out ? predicted.bytes_out : predicted.bytes_in;
      sum += bytes * (copy.at < update ? request_.sequences : 1);
    }
    predicted.placement_gap = best_->placement.gap;
    predicted.step_lower_bound = alone * request_.sequences - optimizer * (request_.sequences - 1);
    return plan;
  }

  // The calls of a step that computes nothing again.
  Seconds compute_alone() const {
    Seconds sum;
    for (const plan::Call& call : (best_ ? best_->built : *smallest_).program.calls)
      if (call.phase != plan::Phase::rerun) sum += profile_.traces[static_cast<std::size_t>(call.trace)].seconds;
    return sum;
  }

  const plan::Profile& profile_;
  const Request& request_;
  std::optional<Candidate> best_;
  std::optional<Built> smallest_;
  std::vector<plan::Considered> considered_;
  int tier_short_ = -1;
  Bytes tier_needs_;
  Bytes tier_over_;  // of the last one tried
  Bytes room_;       // on the tier, for what a placement swaps
};

}  // namespace

const std::vector<std::string>& strategies() {
  static const std::vector<std::string> all{"memo", "resident", "recompute", "offload", "memo-alpha"};
  return all;
}

Result<plan::Plan> make_plan(const plan::Profile& profile, const Request& request) {
  return Search(profile, request).run();
}

}  // namespace memo::sim
