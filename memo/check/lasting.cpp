// Checks persistent tensors, which are changed in place and outlive the step: each must have one address, one place on
// its tier, and there its newest content whenever it is fetched and when the step ends.
#include <algorithm>

#include "memo/check/parts.h"

namespace memo::check {
namespace {

struct Lasting {
  std::vector<int> residencies, copies;
  std::vector<int> writes;  // calls that change it, in order
};

class LastingCheck {
 public:
  LastingCheck(const Plan& plan, Failures& failures)
      : plan_(plan), program_(plan.program), flow_(plan.profile.flow), failures_(failures) {}

  void run() {
    collect();
    for (int t = 0; t < static_cast<int>(tensors_.size()) && !failures_.full(); ++t) {
      const Lasting& it = tensors_[static_cast<std::size_t>(t)];
      if (it.residencies.empty()) continue;
      check_places(t, it);
      for (int r : it.residencies) check_residency(t, it, r);
    }
  }

 private:
  [[nodiscard]] const Residency& residency(int r) const { return program_.residencies[static_cast<std::size_t>(r)]; }
  [[nodiscard]] const Copy& copy(int c) const { return program_.copies[static_cast<std::size_t>(c)]; }

  void collect() {
    tensors_.resize(program_.tensors.size());
    std::vector<std::vector<int>> number(flow_.classes.size());  // [class][layer]
    for (std::size_t t = 0; t < program_.tensors.size(); ++t) {
      const Tensor& tensor = program_.tensors[t];
      if (!lasting(plan_, static_cast<int>(t))) continue;
      auto& layers = number[static_cast<std::size_t>(tensor.cls)];
      layers.resize(static_cast<std::size_t>(flow_.layers) + 1, -1);
      layers[static_cast<std::size_t>(tensor.layer)] = static_cast<int>(t);
    }
    for (int r = 0; r < static_cast<int>(program_.residencies.size()); ++r) {
      const int tensor = residency(r).tensor;
      if (lasting(plan_, tensor))
        tensors_[static_cast<std::size_t>(tensor)].residencies.push_back(r);
      else if (residency(r).origin == Origin::held)
        failures_.add("residency {} of {} is held from step to step, but the tensor is made anew in each", r,
                      name_of_tensor(plan_, tensor));
    }
    for (int c = 0; c < static_cast<int>(program_.copies.size()); ++c)
      tensors_[static_cast<std::size_t>(residency(copy(c).residency).tensor)].copies.push_back(c);
    for (int k = 0; k < static_cast<int>(program_.calls.size()); ++k) {
      const Call& call = program_.calls[static_cast<std::size_t>(k)];
      const model::Segment& segment = flow_.segments[static_cast<std::size_t>(call.segment)];
      for (const model::Use& use : call.phase == Phase::backward ? segment.backward.writes : segment.forward.writes)
        if (flow_.classes[static_cast<std::size_t>(use.cls)].lasting()) {
          const auto& layers = number[static_cast<std::size_t>(use.cls)];
          const auto layer = static_cast<std::size_t>(call.layer);
          if (layer < layers.size() && layers[layer] >= 0)  // else check_data has reported it
            tensors_[static_cast<std::size_t>(layers[layer])].writes.push_back(k);
        }
    }
  }

  void check_places(int t, const Lasting& it) {
    for (int r : it.residencies)
      if (residency(r).offset != residency(it.residencies.front()).offset)
        failures_.add("{} lies at {} and at {}: a lasting tensor has one address", name_of_tensor(plan_, t),
                      residency(it.residencies.front()).offset.value(), residency(r).offset.value());
    for (int c : it.copies) {
      const Copy& first = copy(it.copies.front());
      if (copy(c).tier != first.tier || copy(c).tier_offset != first.tier_offset)
        failures_.add("{} is on tier {} at {} and on tier {} at {}: a lasting tensor has one place there",
                      name_of_tensor(plan_, t), first.tier, first.tier_offset.value(), copy(c).tier,
                      copy(c).tier_offset.value());
    }
  }

  void check_residency(int t, const Lasting& it, int r) {
    const Residency& here = residency(r);
    if (here.origin == Origin::held) {
      if (here.begin != 0 || here.end != static_cast<int>(program_.calls.size()) || it.residencies.size() > 1)
        failures_.add("{} is held, but from boundary {} to {} only", name_of_tensor(plan_, t), here.begin, here.end);
      return;
    }
    if (here.origin == Origin::produced) {
      failures_.add("residency {} of {} is said to be produced, but the tensor outlives the step", r,
                    name_of_tensor(plan_, t));
      return;
    }
    int changed = -1, repeated = -1;  // the last call that changes it here; the last that is made for every sequence
    for (int k : it.writes)
      if (here.begin <= k && k < here.end) {
        changed = std::max(changed, k);
        if (!updates(plan_, k)) repeated = std::max(repeated, k);
      }
    if (changed < 0) return;
    if (repeated >= 0 && plan_.sequences > 1 && std::ranges::none_of(it.copies, [&](int c) {
          return copy(c).direction == Direction::out && copy(c).residency == r && copy(c).at > repeated &&
                 copy(c).at < update_;
        }))
      failures_.add("what {} changes of {} is not written out before the next sequence", name_of_call(plan_, repeated),
                    name_of_tensor(plan_, t));
    const Copy* out = nullptr;  // of the content after that
    for (int c : it.copies)
      if (copy(c).direction == Direction::out && copy(c).residency == r && copy(c).at > changed) out = &copy(c);
    if (out == nullptr) {
      failures_.add("what {} changes of {} is never written out", name_of_call(plan_, changed),
                    name_of_tensor(plan_, t));
      return;
    }
    for (int c : it.copies)
      if (copy(c).direction == Direction::in && copy(c).at >= here.begin && copy(c).residency != r &&
          copy(c).at < out->before)
        failures_.add("copy {} fetches {} from boundary {} on, its newest content need only be out by {}", c,
                      name_of_tensor(plan_, t), copy(c).at, out->before);
  }

  const Plan& plan_;
  const Program& program_;
  const model::Dataflow& flow_;
  Failures& failures_;
  std::vector<Lasting> tensors_;
  const int update_ = first_update(plan_);  // the first call that is not made for every sequence
};

}  // namespace

void check_lasting(const Plan& plan, Failures& failures) { LastingCheck(plan, failures).run(); }

}  // namespace memo::check
