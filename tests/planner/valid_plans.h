// Makes a plan or fails the test, and expects the validator to accept it.
#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "memo/check/validate.h"
#include "memo/planner/planner.h"

namespace memo::planner {

inline plan::Plan plan_or_fail(const plan::Profile& profile, const Request& request) {
  auto plan = make_plan(profile, request);
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return plan ? *std::move(plan) : plan::Plan{};
}

inline void expect_valid(const plan::Plan& plan) {
  const auto failures = check::validate(plan);
  EXPECT_TRUE(failures.empty()) << plan.strategy << ": " << failures.size() << " failures, first: " << failures.front();
}

}  // namespace memo::planner
