// Hundreds of random faults in small plans: each run ends with the bits of a run without faults, or with an error that
// names what failed. None hangs, none differs in silence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/exec/fault_trial.h"

namespace memo::exec {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

constexpr Seconds bound{0.01};  // of the watchdog: an alarm too many ends stalls, and nothing else
constexpr const char* a_copy = R"(copy [0-9]+ \([a-z0-9_.]+, layer [0-9]+)";

const std::vector<NamedPlan>& copying_plans() {
  static const std::vector<NamedPlan> plans = [] {
    std::vector<NamedPlan> all = small_plans(2, 2);
    std::erase_if(all, [](const NamedPlan& named) { return named.plan.program.copies.empty(); });
    return all;
  }();
  return plans;
}

std::uint64_t bits_without_faults() {
  static const std::uint64_t digest = run_with_faults(copying_plans()[0].plan, {.rate = 0}, Seconds(60)).digest;
  return digest;
}

TEST(Faults, RandomOnesEndInTheSameBitsOrInANamedError) {
  std::map<std::string, int> outcomes;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const auto& [name, plan] = copying_plans()[seed % copying_plans().size()];
    const Trial trial = run_with_faults(plan, {.seed = seed, .rate = 0.01}, bound);
    if (trial.injected.empty()) {
      EXPECT_EQ(trial.error, "") << name << ", seed " << seed;
    }
    if (trial.error.empty()) {
      EXPECT_EQ(trial.digest, bits_without_faults()) << name << ", seed " << seed << ": silent";
    } else {
      EXPECT_THAT(trial.error, HasSubstr("disk tier: ")) << name << ", seed " << seed;
    }
    ++outcomes[trial.injected.empty() ? "no fault" : trial.error.empty() ? "same bits" : "error"];
  }
  EXPECT_GT(outcomes["error"], 100);
  EXPECT_GT(outcomes["same bits"], 10);
}

TEST(Faults, AFlippedBitIsReportedWithItsTensor) {
  int found = 0;
  for (const auto& [name, plan] : copying_plans()) {
    const Trial trial = run_with_faults(plan, {.seed = 1, .rate = 0.05, .kinds = {Fault::flipped_bit}}, bound);
    EXPECT_EQ(trial.error.empty(), trial.injected.empty()) << name;
    if (trial.injected.empty()) continue;
    EXPECT_THAT(trial.error, AllOf(ContainsRegex(a_copy), HasSubstr("are not what was written there"))) << name;
    ++found;
  }
  EXPECT_GT(found, 5);
}

TEST(Faults, WithoutChecksumsAFlippedBitIsADifferenceThatNobodyReports) {  // so the tests above can fail
  int different = 0;
  for (const auto& [name, plan] : copying_plans()) {
    const Trial trial = run_with_faults(plan, {.seed = 1, .rate = 0.05, .kinds = {Fault::flipped_bit}}, bound, false);
    EXPECT_EQ(trial.error, "") << name;
    different += trial.digest != bits_without_faults() ? 1 : 0;
  }
  EXPECT_GT(different, 5);
}

TEST(Faults, AStallIsNamedAndTheRunGoesOnWhenItEnds) {
  for (const auto& [name, plan] : copying_plans()) {
    const Trial trial = run_with_faults(plan, {.seed = 2, .rate = 0.2, .kinds = {Fault::stall}}, Seconds(0.05));
    ASSERT_FALSE(trial.injected.empty());
    EXPECT_THAT(trial.stalled, AllOf(HasSubstr("nothing has moved for"), HasSubstr("disk tier: "))) << name;
    EXPECT_EQ(trial.error, "") << name;
    EXPECT_EQ(trial.digest, bits_without_faults()) << name;
  }
}

}  // namespace
}  // namespace memo::exec
