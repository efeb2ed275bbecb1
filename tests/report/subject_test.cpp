// Reading plans and run folders, whole, growing and damaged.
#include "memo/report/subject.h"

#include <fstream>

#include "subjects.h"

namespace memo::report {
namespace {

class RunFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = Path(testing::TempDir()) /
              ("memo_report_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    ASSERT_TRUE(plan::write_plan(plan::tiny_plan(), folder_ / "plan.json").has_value());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const char* name, const std::string& text) const { std::ofstream(folder_ / name) << text; }
  [[nodiscard]] std::string refusal() const {
    const auto subject = read_subject(folder_);
    EXPECT_FALSE(subject.has_value());
    if (subject) return "";
    EXPECT_EQ(subject.error().kind, ErrorKind::bad_input);
    EXPECT_EQ(subject.error().message.find('\n'), std::string::npos);
    return subject.error().message;
  }

  Path folder_;
};

TEST_F(RunFolder, ThePlanAloneIsEnough) {
  for (const Path& path : {folder_, folder_ / "plan.json"}) {
    const auto subject = read_subject(path);
    ASSERT_TRUE(subject.has_value()) << subject.error().message;
    EXPECT_FALSE(subject->is_run());
    EXPECT_GT(subject->predicted.step, Seconds(0));
  }
}

TEST_F(RunFolder, StepsOfARunThatGoesOn) {
  write(
      "metrics.jsonl",
      R"({"step":1,"loss":5.5,"lr":0.001,"gradient_norm":2.0,"seconds":3.0,"stall_seconds":0.5,"tokens_per_second":1.0})"
      "\n");
  const auto subject = read_subject(folder_);
  ASSERT_TRUE(subject.has_value()) << subject.error().message;
  ASSERT_EQ(subject->steps.size(), 1U);
  EXPECT_EQ(subject->steps[0].loss, 5.5);
  EXPECT_TRUE(subject->is_run());
}

TEST_F(RunFolder, LossesByPositionAreMeansOfSpansOfTheEvaluationsContext) {
  std::string losses = "0";
  for (int i = 1; i < 512; ++i) losses += "," + std::to_string(i);
  write("eval.json", R"({"loss":1,"by_position":[)" + losses + "]}");
  const auto subject = read_subject(folder_);
  ASSERT_TRUE(subject.has_value()) << subject.error().message;
  EXPECT_EQ(subject->loss_by_position.context, 512);
  ASSERT_EQ(subject->loss_by_position.losses.size(), 256U);
  EXPECT_EQ(subject->loss_by_position.losses[0], 0.5);
  EXPECT_EQ(subject->loss_by_position.losses[255], 510.5);
}

TEST_F(RunFolder, ATruncatedLineOfMetricsIsNamed) {
  write("metrics.jsonl", R"({"step":1,"lo)");
  EXPECT_NE(refusal().find("metrics.jsonl: line 1"), std::string::npos);
}

TEST_F(RunFolder, ATimelineOfAnotherVersionIsNamed) {
  write("timeline.json", R"({"version":7})");
  EXPECT_NE(refusal().find("timeline.json: version: is 7, this memo reads 1"), std::string::npos);
}

TEST_F(RunFolder, ATimelineOfAnotherRunIsNamed) {
  write("timeline.json", R"({"version":1,"measured":{"calls":[[0,0,5]],"copies_out":[],"copies_in":[]}})");
  EXPECT_NE(refusal().find("timeline.json: measured.calls: has 1 calls where plan.json has 21"), std::string::npos);
}

TEST_F(RunFolder, AnIndexOutOfRangeIsNamed) {
  write("timeline.json", R"({"version":1,"measured":{"calls":[],"copies_out":[[9,0,5]],"copies_in":[]}})");
  EXPECT_NE(refusal().find("timeline.json: measured.copies_out[0]"), std::string::npos);
}

TEST_F(RunFolder, AForeignSummaryIsNamed) {
  write("summary.json", R"({"accuracy":1})");
  EXPECT_NE(refusal().find("summary.json: 'device_peak_bytes' is missing"), std::string::npos);
}

TEST_F(RunFolder, AFolderWithoutAPlanIsNone) {
  std::filesystem::remove(folder_ / "plan.json");
  EXPECT_NE(refusal().find("is not a run folder"), std::string::npos);
}

TEST_F(RunFolder, AWrongPlanIsRefused) {
  plan::Plan plan = plan::tiny_plan();
  auto& residencies = plan.program.residencies;
  residencies[plan::ResidencyIndex(1)].offset = residencies[plan::ResidencyIndex(2)].offset / 4096 * 4096;
  ASSERT_TRUE(plan::write_plan(plan, folder_ / "plan.json").has_value());
  EXPECT_NE(refusal().find("plan.json: the plan is wrong"), std::string::npos);
}

}  // namespace
}  // namespace memo::report
