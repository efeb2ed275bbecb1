// The search of each strategy for placements and paces.
#include "memo/planner/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include "memo/planner/checkpoints.h"
#include "memo/planner/placement.h"
#include "memo/planner/streaming.h"
#include "memo/planner/trials.h"

namespace memo::planner {
namespace {

constexpr int refinements = 4;  // of the budget for kept tensors
constexpr std::size_t paces_refined = 2;
constexpr int most_lightened = 12;       // trials with less room on the tier
constexpr double enough_better = 0.998;  // of a step's time, to go on
constexpr int corrections = 8;           // of the room on the tier
constexpr int most_layers_together = 8;  // of a checkpoint
// Of the layers that need not be updated on the host: with the fewest, there is no room for what copies would stall on.
constexpr double spare_on_host = 0.5;
constexpr double worth_streaming =
    1.01;  // streamed plans are tried when the best step takes this much more than compute

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
  Search(const plan::Profile& profile, const Request& request)
      : profile_(profile), request_(request), trials_(profile, request) {}

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
    return trials_.finish();
  }

 private:
  // Makes a placement that keeps at most `budget` bytes.
  using Place = std::function<Placement(Bytes budget)>;
  // The fastest placement that `refine` found: its budget, and what it swaps.
  struct Refined {
    Bytes budget, swapped;
    double seconds = 0;  // 0: none fits
  };

  void try_each_pace(const std::string& name, const Placement& placement) {
    const bool copies = std::ranges::any_of(placement.classes, [](const auto& c) { return c.swapped > 0; });
    for (const Pace& pace : paces(request_, copies)) {
      trials_.consider(name, placement, pace);
      if (done()) return;
    }
  }

  // Strategy memo may take the placement of any other strategy. It also tries optimal placements, with a budget for
  // kept tensors: the limit less the peak of a plan that keeps nothing, then corrected by the packed peak. This is done
  // at the two paces at which the plan that keeps nothing is fastest.
  void search_memo(int tier) {
    trials_.consider("resident", place_resident(profile_), {1, false});
    trials_.consider("recompute", place_recompute(profile_, -1), {1, false});
    if (done()) return;
    if (tier >= 0) {
      const Pace usual{request_.slots > 0 ? request_.slots : 2, false};
      trials_.consider("offload", place_recompute(profile_, tier), usual);
      // Tried whatever the measurements, so that the smallest limit does not depend on times.
      for (const int slots : {1, 2})
        if (request_.slots == 0 || slots == request_.slots) {
          const Placement all = place_swapped(profile_, tier);
          trials_.consider("all swapped", all, {slots, false});
          trials_.consider("all streamed", streamed(all, profile_, tier), {slots, false});
        }
      if (done()) return;
      try_each_pace("memo-alpha", place_alpha(profile_, tier));
      if (done()) return;
    }
    if (request_.device_limit == Bytes(0)) {
      try_each_pace("by block", place_optimal(profile_, tier, Bytes(std::int64_t{1} << 60)));
      return;
    }
    search_budgets(
        "by block", [&](Bytes budget) { return optimal(tier, budget); }, tier);
    if (done()) return;
    if (tier >= 0 && (!trials_.any() || trials_.slowdown() > worth_streaming))
      search_budgets(
          "by block, streamed", [&](Bytes budget) { return streamed(optimal(tier, budget), profile_, tier); }, tier);
    if (tier < 0 ? !trials_.any() : trials_.tier_short()) search_checkpoints(tier);
    const bool hopeless = tier < 0 || (!trials_.any() && request_.any_plan && over_without_parameters(tier));
    if (hopeless || trials_.any()) return;
    const bool on_host = host_updates_faster(tier);
    if (on_host) search_host_updates(tier);
    if (!trials_.any()) search_paged(tier);
    if (!on_host && !trials_.any()) search_host_updates(tier);
  }

  [[nodiscard]] bool done() const { return request_.any_plan && trials_.any(); }

  // Whether a plan that streams everything exceeds the limit even without any parameter on the device.
  bool over_without_parameters(int tier) {
    const Placement all = streamed(place_swapped(profile_, tier), profile_, tier);
    Bytes parameters;
    for (const model::TensorClass& cls : profile_.flow.classes)
      parameters += cls.layer_bytes * std::int64_t{profile_.flow.layers};
    return build_program(profile_, all.classes, {1, false}).lower_bound - parameters > request_.device_limit;
  }

  // For a tier, or a device without one, that is too small for the inputs of all layers. Layers alone have no such
  // plan: their inputs come from outside, once.
  void search_checkpoints(int tier) {
    if (profile_.flow.layers_alone()) return;
    const int slots = request_.slots > 0 ? request_.slots : 2;
    for (int k = 2; k < profile_.flow.layers && k <= most_layers_together; ++k) {
      const std::string name = fmt::format("{} layers a checkpoint", k);
      if (done()) return;
      trials_.consider(name, checkpointed(place_recompute(profile_, -1), profile_, k), {1, false});
      if (tier < 0) continue;
      const Placement all = checkpointed(place_recompute(profile_, tier), profile_, k);
      trials_.consider(name, all, {slots, false});
      trials_.consider(name, streamed(all, profile_, tier), {slots, false});
    }
  }

  // When nothing fits, parameters leave the device too, as few of them as suffice. Their copies on the tier cross it
  // more than once a step, so this is the last resort.
  void search_paged(int tier) {
    for (const auto& [most, name] : {std::pair(Paged::optimizer, "streamed, optimizer paged"),
                                     std::pair(Paged::gradients, "streamed, gradients paged"),
                                     std::pair(Paged::weights, "streamed, weights paged")})
      for (const int slots : {2, 1})
        if (search_parameters(
                name, tier, slots,
                [&, kind = most](Placement placement, int layers) {
                  return paged(std::move(placement), profile_, tier, kind, layers);
                },
                0))
          return;
  }

  // Where the host may update layers, their state stays on the tier: gradients leave and weights come, and nothing else
  // of them crosses it.
  void search_host_updates(int tier) {
    if (!host_may_update()) return;
    for (const bool page_weights : {false, true})
      for (const int slots : {2, 1})
        if (search_parameters(
                page_weights ? "updated on the host, weights paged" : "updated on the host", tier, slots,
                [&](Placement placement, int layers) {
                  return updated_on_host(std::move(placement), profile_, tier, layers, page_weights);
                },
                spare_on_host))
          return;
  }

  [[nodiscard]] bool host_may_update() const {
    return profile_.flow.find_segment(model::SegmentRole::host_update_before).exists();
  }

  // Whether the host updates a layer sooner than its optimizer state comes to the device and goes back.
  [[nodiscard]] bool host_updates_faster(int tier) const {
    if (!host_may_update()) return false;
    const plan::Tier& of = profile_.tiers[at(tier)];
    Seconds host, copies;
    for (const plan::Trace& trace : profile_.traces)
      if (profile_.flow.segments[trace.segment].stage == model::Stage::host_update) host += trace.seconds;
    for (const model::TensorClass& cls : profile_.flow.classes)
      if (cls.role == model::TensorRole::optimizer)
        copies += transfer_time(cls.layer_bytes, of.read) + transfer_time(cls.layer_bytes, of.write);
    return host < copies;
  }

  // Tries placements whose parameters `page` puts on the tier: those of as few layers as suffice, and `spare` of the
  // others. Returns whether one fits, or is enough.
  bool search_parameters(const std::string& name, int tier, int slots,
                         const std::function<Placement(Placement, int layers)>& page, double spare) {
    if (request_.slots > 0 && slots != std::min(request_.slots, 2)) return false;
    const int layers = profile_.flow.layers;
    const Pace pace{request_.slots > 0 ? request_.slots : slots, false};
    int enough = layers;
    const Place place = [&](Bytes budget) { return page(streamed(optimal(tier, budget), profile_, tier), enough); };
    Placement base = streamed(place_swapped(profile_, tier), profile_, tier);
    const auto try_with = [&](int count) { return trials_.consider(name, page(base, count), pace); };
    Trials::Tried tried = try_with(layers);
    if (tried.over_tier > Bytes(0)) {
      fit_tier(name, place, tier, pace);  // sets the room
      base = streamed(optimal(tier, Bytes(0)), profile_, tier);
      tried = try_with(layers);
    }
    if (done()) return true;
    if (!tried.fits) return false;
    for (int least = 1; least < enough;) {
      const int middle = (least + enough) / 2;
      try_with(middle).fits ? enough = middle : least = middle + 1;
    }
    enough += static_cast<int>(spare * (layers - enough));
    search_budgets(name, place, tier);
    return true;
  }

  Placement optimal(int tier, Bytes budget) const { return place_optimal(profile_, tier, budget, room_); }

  void search_budgets(const std::string& name, const Place& place, int tier) {
    const std::vector<Pace> all_paces = paces(request_, tier >= 0);
    const auto [nothing_kept, first] = fit_tier(name, place, tier, all_paces.front());
    std::vector<std::tuple<double, Pace, Bytes>> ranked;
    for (std::size_t i = 0; i < all_paces.size(); ++i) {
      const Pace& pace = all_paces[i];
      const Trials::Tried base = i == 0 ? first : trials_.consider(name, nothing_kept, pace);
      if (base.fits) ranked.emplace_back(base.seconds, pace, base.peak);
    }
    std::ranges::stable_sort(ranked, {}, [](const auto& entry) { return std::get<0>(entry); });
    for (std::size_t i = 0; i < ranked.size() && i < paces_refined; ++i) {
      const Pace& pace = std::get<1>(ranked[i]);
      const Refined best = refine(name, place, std::get<2>(ranked[i]), pace);
      if (tier >= 0 && i == 0 && best.seconds > 0) lighten(name, place, best, pace);
    }
  }

  // The placement problem does not see all that crosses a link (streamed gradients, paged state). Where its plan
  // stalls, computing more again may be faster than copying it: tries less room on the tier, until that no longer
  // helps.
  void lighten(const std::string& name, const Place& place, Refined best, const Pace& pace) {
    const Bytes room = room_;
    room_ = std::min(room, best.swapped);
    for (int i = 0; i < most_lightened && trials_.slowdown() > worth_streaming; ++i) {
      room_ = Bytes(room_.value() / 8 * 7);
      const Trials::Tried tried = trials_.consider(name, place(best.budget), pace);
      if (!tried.fits || tried.seconds > best.seconds * enough_better) break;
      best.seconds = tried.seconds;
    }
    room_ = room;
  }

  // Returns the placement that keeps nothing, and its trial. A program needs more of the tier than its placement swaps,
  // so the room for swapped tensors is reduced by the excess.
  // its room is corrected by what it was over.
  std::pair<Placement, Trials::Tried> fit_tier(const std::string& name, const Place& place, int tier,
                                               const Pace& pace) {
    const Bytes capacity = tier < 0 ? Bytes(0) : profile_.tiers[at(tier)].capacity;
    room_ = capacity;
    for (int i = 0;; ++i) {
      Placement placement = place(Bytes(0));
      const Trials::Tried tried = trials_.consider(name, placement, pace);
      const Bytes less = tried.over_tier + capacity / 100;
      if (tried.over_tier == Bytes(0) || less >= room_ || i == corrections) return {std::move(placement), tried};
      room_ -= less;
    }
  }

  // Bytes that a placement swaps of what the placement problem decides on.
  Bytes swapped(const Placement& placement) const {
    std::set<std::pair<ClassIndex, LayerIndex>> decided;
    for (const Unit& unit : units(profile_, 0))
      for (const ClassIndex cls : unit.classes) decided.emplace(cls, unit.layer);
    Bytes sum;
    for (const ClassPlacement& entry : placement.classes)
      if (decided.contains({entry.cls, entry.layer}))
        sum += profile_.flow.bytes_of(entry.cls, BlockIndex(0)) * std::int64_t{entry.swapped};
    return sum;
  }

  Refined refine(const std::string& name, const Place& place, Bytes base, const Pace& pace) {
    Refined best;
    Bytes budget = request_.device_limit - base;
    Bytes too_much = budget * 2 + Bytes(1);
    for (int i = 0; i < refinements && budget > Bytes(0); ++i) {
      const Placement placement = place(budget);
      const Trials::Tried tried = trials_.consider(name, placement, pace);
      const Bytes peak = tried.peak;
      if (tried.fits && (best.seconds == 0 || tried.seconds < best.seconds))
        best = {budget, swapped(placement), tried.seconds};
      if (trials_.fits(peak)) {
        const Bytes next = std::min(budget + (request_.device_limit - peak), (budget + too_much) / 2);
        if (next - budget < request_.device_limit / 100) break;
        budget = next;
      } else {
        too_much = budget;
        budget -= std::min(budget, peak - request_.device_limit);
      }
    }
    return best;
  }

  const plan::Profile& profile_;
  const Request& request_;
  Trials trials_;
  Bytes room_;  // on the tier, for what a placement swaps
};

}  // namespace

const std::vector<std::string>& strategies() {
  static const std::vector<std::string> all{"memo", "resident", "recompute", "offload", "memo-alpha"};
  return all;
}

Result<plan::Plan> make_plan(const plan::Profile& profile, const Request& request) {
  return Search(profile, request).run();
}

}  // namespace memo::planner
