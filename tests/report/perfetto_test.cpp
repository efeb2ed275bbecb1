// Traces for Perfetto have every call and copy, predicted and measured.
#include "memo/report/perfetto.h"

#include <map>
#include <nlohmann/json.hpp>

#include "memo/base/json.h"
#include "subjects.h"

namespace memo::report {
namespace {

TEST(Perfetto, HasEveryCallAndCopyOnItsThread) {
  const Subject subject = subject_of(stalling_plan());
  const nlohmann::json trace = json_of(perfetto_trace({subject}));
  std::map<int, std::size_t> slices;
  std::map<std::string, double> clock;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == "X") {
      ++slices[event["tid"].get<int>()];
      EXPECT_GE(event["dur"].get<double>(), 0);
    } else if (event["ph"] == "C") {
      double& before = clock[event["name"].get<std::string>()];
      EXPECT_GE(event["ts"].get<double>(), before);
      before = event["ts"].get<double>();
      EXPECT_GE(event["args"]["bytes"].get<std::int64_t>(), 0);
    } else {
      EXPECT_EQ(event["ph"], "M");
    }
  }
  EXPECT_EQ(slices[1], subject.plan.program.calls.size());
  EXPECT_GT(slices[2], 0U);
  EXPECT_EQ(slices[3] + slices[4], subject.plan.program.copies.size());
  EXPECT_EQ(clock.size(), 2U);
  EXPECT_NEAR(clock.at("device bytes"), subject.predicted.step.value() * 1e6, 1);
}

TEST(Perfetto, AMeasuredTimelineIsAProcessOfItsOwn) {
  Subject subject = subject_of(plan::tiny_plan());
  subject.timeline = subject.predicted;
  const std::string trace = perfetto_trace({subject});
  EXPECT_NE(trace.find("\"plan.json, predicted\""), std::string::npos);
  EXPECT_NE(trace.find("\"plan.json, measured\""), std::string::npos);
}

}  // namespace
}  // namespace memo::report
