// Checks persistent tensors, which are changed in place and outlive the step: each must have one address, one place on
// its tier, and there its newest content whenever it is fetched and when the step ends.
#include <algorithm>

#include "memo/check/parts.h"

namespace memo::check {
namespace {

struct Persistent {
  std::vector<ResidencyIndex> residencies;
  std::vector<std::size_t> copies;
  std::vector<CallIndex> writes;  // calls that change it, in order
};

class PersistentCheck {
 public:
  PersistentCheck(const Plan& plan, Failures& failures)
      : plan_(plan), program_(plan.program), flow_(plan.profile.flow), failures_(failures) {}

  void run() {
    collect();
    for (const TensorIndex t : tensors_.indices()) {
      if (failures_.full()) break;
      const Persistent& it = tensors_[t];
      if (it.residencies.empty()) continue;
      check_places(t, it);
      for (const ResidencyIndex r : it.residencies) check_residency(t, it, r);
    }
  }

 private:
  [[nodiscard]] const Residency& residency(ResidencyIndex r) const { return program_.residencies[r]; }
  [[nodiscard]] const Copy& copy(std::size_t c) const { return program_.copies[c]; }

  void collect() {
    tensors_.resize(program_.tensors.size());
    using Layers = IndexedVector<LayerIndex, TensorIndex>;
    const Layers no_tensors(at(flow_.layers) + 1, TensorIndex::none());
    IndexedVector<ClassIndex, Layers> number(flow_.classes.size(), no_tensors);
    for (const TensorIndex t : program_.tensors.indices())
      if (persistent(plan_, t)) number[program_.tensors[t].cls][program_.tensors[t].layer] = t;
    for (const ResidencyIndex r : program_.residencies.indices()) {
      const TensorIndex tensor = residency(r).tensor;
      if (persistent(plan_, tensor))
        tensors_[tensor].residencies.push_back(r);
      else if (residency(r).origin == Origin::held || residency(r).origin == Origin::zeroed)
        failures_.add("residency {} of {} is held from step to step or begins as zeros, but a call makes the tensor", r,
                      name_of_tensor(plan_, tensor));
    }
    for (std::size_t c = 0; c < program_.copies.size(); ++c)
      tensors_[residency(copy(c).residency).tensor].copies.push_back(c);
    for (const CallIndex k : program_.calls.indices()) {
      const Call& call = program_.calls[k];
      const model::Segment& segment = flow_.segments[call.segment];
      for (const model::Use& use : call.phase == Phase::backward ? segment.backward.writes : segment.forward.writes)
        if (flow_.classes[use.cls].persistent() && call.layer.within(no_tensors.size()))
          if (const TensorIndex t = number[use.cls][call.layer]; t.exists())  // else check_data has reported it
            tensors_[t].writes.push_back(k);
    }
  }

  void check_places(TensorIndex t, const Persistent& it) {
    for (const ResidencyIndex r : it.residencies)
      if (residency(r).offset != residency(it.residencies.front()).offset)
        failures_.add("{} lies at {} and at {}: a persistent tensor has one address", name_of_tensor(plan_, t),
                      residency(it.residencies.front()).offset.value(), residency(r).offset.value());
    for (const std::size_t c : it.copies) {
      const Copy& first = copy(it.copies.front());
      if (copy(c).tier != first.tier || copy(c).tier_offset != first.tier_offset)
        failures_.add("{} is on tier {} at {} and on tier {} at {}: a persistent tensor has one place there",
                      name_of_tensor(plan_, t), first.tier, first.tier_offset.value(), copy(c).tier,
                      copy(c).tier_offset.value());
    }
  }

  void check_residency(TensorIndex t, const Persistent& it, ResidencyIndex r) {
    const Residency& here = residency(r);
    if (here.origin == Origin::held) {
      if (here.begin != Boundary(0) || here.end != program_.calls.end_index() || it.residencies.size() > 1)
        failures_.add("{} is held, but from boundary {} to {} only", name_of_tensor(plan_, t), here.begin, here.end);
      return;
    }
    if (here.origin == Origin::produced) {
      failures_.add("residency {} of {} is said to be produced, but the tensor outlives the step", r,
                    name_of_tensor(plan_, t));
      return;
    }
    if (here.origin == Origin::zeroed && !begins_as_zeros(t, it, here))
      failures_.add(
          "residency {} of {} begins as zeros, which only gradients do, for the first call of a step's only sequence",
          r, name_of_tensor(plan_, t));
    // The last call that changes it here; the last that is made for every sequence.
    CallIndex changed = CallIndex::none(), repeated = CallIndex::none();
    for (const CallIndex k : it.writes)
      if (here.begin <= k && k < here.end) {
        changed = std::max(changed, k);
        if (!updates(plan_, k)) repeated = std::max(repeated, k);
      }
    if (!changed.exists()) return;
    if (repeated.exists() && plan_.sequences > 1 && std::ranges::none_of(it.copies, [&](std::size_t c) {
          return copy(c).direction == Direction::out && copy(c).residency == r && copy(c).at > repeated &&
                 copy(c).at < update_;
        }))
      failures_.add("what {} changes of {} is not written out before the next sequence", name_of_call(plan_, repeated),
                    name_of_tensor(plan_, t));
    const Copy* out = nullptr;  // of the content after that
    for (const std::size_t c : it.copies)
      if (copy(c).direction == Direction::out && copy(c).residency == r && copy(c).at > changed) out = &copy(c);
    if (out == nullptr) {
      failures_.add("what {} changes of {} is never written out", name_of_call(plan_, changed),
                    name_of_tensor(plan_, t));
      return;
    }
    for (const std::size_t c : it.copies)
      if (copy(c).direction == Direction::in && copy(c).at >= here.begin && copy(c).residency != r &&
          copy(c).at < out->before)
        failures_.add("copy {} fetches {} from boundary {} on, its newest content need only be out by {}", c,
                      name_of_tensor(plan_, t), copy(c).at, out->before);
  }

  [[nodiscard]] bool begins_as_zeros(TensorIndex t, const Persistent& it, const Residency& here) const {
    const bool first = !it.writes.empty() && it.writes.front() == here.begin;
    return first && plan_.sequences == 1 && flow_.classes[program_.tensors[t].cls].role == model::TensorRole::gradients;
  }

  const Plan& plan_;
  const Program& program_;
  const model::Dataflow& flow_;
  Failures& failures_;
  IndexedVector<TensorIndex, Persistent> tensors_;
  const CallIndex update_ = first_update(plan_);  // the first call that is not made for every sequence
};

}  // namespace

void check_persistent(const Plan& plan, Failures& failures) { PersistentCheck(plan, failures).run(); }

}  // namespace memo::check
