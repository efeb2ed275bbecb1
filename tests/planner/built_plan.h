// A plan as build_program makes it of a placement, without the planner's search.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "memo/planner/build.h"

namespace memo::planner {

// Not simulated: a prediction without times.
inline Plan built_plan(const Profile& profile, std::vector<ClassPlacement> placement, const Pace& pace) {
  Plan plan;
  plan.strategy = "memo";
  plan.profile = profile;
  plan.placement = std::move(placement);
  Built built = build_program(profile, plan.placement, pace);
  plan.program = std::move(built.program);
  plan.predicted.device_peak = plan.program.arena;
  plan.predicted.device_lower_bound = built.lower_bound;
  for (const Copy& copy : plan.program.copies) {
    const TensorIndex tensor = plan.program.residencies[copy.residency].tensor;
    (copy.direction == Direction::out ? plan.predicted.bytes_out : plan.predicted.bytes_in) +=
        plan.program.tensors[tensor].bytes;
  }
  return plan;
}

inline const model::TensorClass& class_of(const Plan& plan, TensorIndex tensor) {
  return plan.profile.flow.classes[plan.program.tensors[tensor].cls];
}
inline const model::TensorClass& class_of(const Plan& plan, const Copy& copy) {
  return class_of(plan, plan.program.residencies[copy.residency].tensor);
}

// The first copy of a class in a direction, by its number; -1: there is none.
inline int first_copy(const Plan& plan, const char* cls, Direction direction) {
  for (std::size_t c = 0; c < plan.program.copies.size(); ++c)
    if (class_of(plan, plan.program.copies[c]).name == cls && plan.program.copies[c].direction == direction)
      return static_cast<int>(c);
  return -1;
}
inline Copy& copy_of(Plan& plan, const char* cls, Direction direction) {
  return plan.program.copies[static_cast<std::size_t>(first_copy(plan, cls, direction))];
}

// A change to a plan, and what the validator then says.
struct Wrong {
  const char* name;
  std::function<void(Plan&)> change;
  const char* failure;
};

}  // namespace memo::planner
