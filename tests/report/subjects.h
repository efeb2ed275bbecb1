// Subjects for the tests: the tiny plan written by hand, and plans of a made-up decoder.
#pragma once

#include <gtest/gtest.h>

#include "../plan/synthetic_profile.h"
#include "../plan/tiny_plan.h"
#include "memo/planner/planner.h"
#include "memo/report/subject.h"

namespace memo::report {

inline Subject subject_of(plan::Plan plan) {
  Subject subject;
  subject.name = "plan.json";
  subject.predicted = sim::simulate(plan.profile, plan.program);
  subject.plan = std::move(plan);
  return subject;
}

inline plan::Plan planned(const plan::Profile& profile, const std::string& strategy, Bytes limit = Bytes(0)) {
  auto plan = planner::make_plan(profile, {strategy, limit, 0});
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return plan ? *std::move(plan) : plan::Plan{};
}

// A slow disk and offload: there are stalls.
inline plan::Plan stalling_plan() {
  plan::SyntheticOptions options;
  options.bandwidth = 1e7;
  options.context = 4096;
  options.block = 512;
  return planned(plan::synthetic_profile(options), "offload");
}

}  // namespace memo::report
