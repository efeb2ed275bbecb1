// Checks updates on the host: optimizer state that stays on a tier, gradients that are there before the first of these
// updates, and weights of which the device has no old content afterwards.
#include <algorithm>

#include "memo/check/parts.h"

namespace memo::check {
namespace {

using model::TensorRole;

class HostUpdateCheck {
 public:
  HostUpdateCheck(const Plan& plan, Failures& failures)
      : plan_(plan),
        program_(plan.program),
        flow_(plan.profile.flow),
        failures_(failures),
        updated_by_(program_.tensors.size(), CallIndex::none()),
        residencies_(program_.tensors.size()),
        copies_(program_.tensors.size()),
        on_tier_(program_.tensors.size(), -1) {
    for (const ResidencyIndex r : program_.residencies.indices())
      residencies_[program_.residencies[r].tensor].push_back(&program_.residencies[r]);
    for (const Copy& copy : program_.copies) copies_[program_.residencies[copy.residency].tensor].push_back(&copy);
  }

  void run() {
    for (const OnTier& it : program_.on_tier) check_on_tier(it);
    for (const CallIndex k : program_.calls.indices()) {
      const model::Segment& segment = flow_.segments[program_.calls[k].segment];
      if (segment.stage != model::Stage::host_update) continue;
      if (!first_.exists()) first_ = k;
      for (const TensorIndex t : program_.tensors.indices()) {
        const Tensor& tensor = program_.tensors[t];
        const model::TensorClass& cls = flow_.classes[tensor.cls];
        if (!cls.persistent() || tensor.layer != program_.calls[k].layer || cls.stage != segment.host_updated())
          continue;
        updated_by_[t] = k;
      }
    }
    for (const TensorIndex t : program_.tensors.indices()) {
      if (failures_.full()) return;
      const TensorRole role = flow_.classes[program_.tensors[t].cls].role;
      if (!updated_by_[t].exists())
        check_not_updated(t);
      else if (role == TensorRole::optimizer)
        check_optimizer(t);
      else if (role == TensorRole::gradients)
        check_gradients(t);
      else
        check_weights(t);
    }
  }

 private:
  [[nodiscard]] std::string name(TensorIndex t) const { return name_of_tensor(plan_, t); }

  void check_on_tier(const OnTier& it) {
    if (flow_.classes[program_.tensors[it.tensor].cls].role != TensorRole::optimizer)
      failures_.add("{} stays on tier {}, but only optimizer state does", name(it.tensor), it.tier);
    if (on_tier_[it.tensor] >= 0) failures_.add("{} stays in two places of tiers", name(it.tensor));
    if (!residencies_[it.tensor].empty())
      failures_.add("{} stays on tier {}, and has residencies", name(it.tensor), it.tier);
    on_tier_[it.tensor] = it.tier;
  }

  void check_not_updated(TensorIndex t) {
    if (on_tier_[t] >= 0) failures_.add("{} stays on a tier, but the host does not update its layer", name(t));
    for (const Copy* copy : copies_[t])
      if (copy->direction == Direction::in && program_.residencies[copy->residency].origin == Origin::held)
        failures_.add("a copy overwrites {}, which is held and which the host does not update", name(t));
  }

  void check_optimizer(TensorIndex t) {
    if (on_tier_[t] < 0) failures_.add("{} updates {} on the host, but it stays on no tier", call_of(t), name(t));
  }

  // The last content, after all calls that add to it, must be on the tier before the first update.
  void check_gradients(TensorIndex t) {
    CallIndex changed = CallIndex::none();
    for (const CallIndex k : program_.calls.indices()) {
      const Call& call = program_.calls[k];
      const model::Segment& segment = flow_.segments[call.segment];
      if (call.phase != Phase::backward || call.layer != program_.tensors[t].layer) continue;
      for (const model::Use& use : segment.backward.writes)
        if (use.cls == program_.tensors[t].cls) changed = k;
    }
    const bool out = std::ranges::any_of(copies_[t], [&](const Copy* copy) {
      return copy->direction == Direction::out && copy->at > changed && copy->before <= first_;
    });
    if (!out)
      failures_.add("{} needs {}, which is not written out before the host's first update", call_of(t), name(t));
    check_tier(t);
  }

  // Held weights are fetched anew after the update, once; others may not be on the device during it.
  void check_weights(TensorIndex t) {
    const CallIndex k = updated_by_[t];
    int fetched = 0;
    for (const Copy* copy : copies_[t]) {
      const Origin origin = program_.residencies[copy->residency].origin;
      if (copy->direction == Direction::out) failures_.add("{} is written out, over what the host updates", name(t));
      if (copy->direction == Direction::in && origin == Origin::held) ++fetched;
      if (origin == Origin::held && copy->at <= k)
        failures_.add("{} is fetched from boundary {} on, {} updates it after that", name(t), copy->at, call_of(t));
    }
    bool held = false;
    for (const Residency* r : residencies_[t]) {
      held = held || r->origin == Origin::held;
      if (r->origin != Origin::held && r->begin <= k && k < r->end)
        failures_.add("{} is on the device from boundary {} to {}, while {} updates it on the host", name(t), r->begin,
                      r->end, call_of(t));
    }
    if (held && fetched != 1)
      failures_.add("{} is held, and {} copies fetch it after {} instead of one", name(t), fetched, call_of(t));
    if (copies_[t].empty()) failures_.add("no copy fetches {}, which {} updates", name(t), call_of(t));
    check_tier(t);
  }

  // All that one update needs is on one tier.
  void check_tier(TensorIndex t) {
    for (const OnTier& it : program_.on_tier)
      if (updated_by_[it.tensor] == updated_by_[t])
        for (const Copy* copy : copies_[t])
          if (copy->tier != it.tier)
            failures_.add("{} is on tier {}, {} on tier {}: an update needs both on one", name(t), copy->tier,
                          name(it.tensor), it.tier);
  }

  [[nodiscard]] std::string call_of(TensorIndex t) const { return name_of_call(plan_, updated_by_[t]); }

  const Plan& plan_;
  const Program& program_;
  const model::Dataflow& flow_;
  Failures& failures_;
  IndexedVector<TensorIndex, CallIndex> updated_by_;  // by tensor: the update on the host that changes it, or none
  IndexedVector<TensorIndex, std::vector<const Residency*>> residencies_;
  IndexedVector<TensorIndex, std::vector<const Copy*>> copies_;
  IndexedVector<TensorIndex, int> on_tier_;  // the tier, or -1
  CallIndex first_ = CallIndex::none();
};

}  // namespace

void check_host_updates(const Plan& plan, Failures& failures) { HostUpdateCheck(plan, failures).run(); }

}  // namespace memo::check
