// Stalls add up to the simulated ones, and name the copy that compute waited for.
#include "memo/report/stalls.h"

#include <algorithm>

#include "subjects.h"

namespace memo::report {
namespace {

TEST(Stalls, AddUpToThePrediction) {
  const Subject subject = subject_of(stalling_plan());
  const std::vector<Stall> found = stalls(subject.plan.program, subject.predicted);
  ASSERT_FALSE(found.empty());
  Seconds sum;
  for (const Stall& stall : found) {
    sum += stall.seconds;
    EXPECT_EQ(subject.plan.program.copies[static_cast<std::size_t>(stall.copy)].before, stall.boundary);
  }
  EXPECT_NEAR(sum.value(), subject.predicted.stall.value(),
              1e-6 * static_cast<double>(subject.plan.program.calls.size()));

  Seconds by_class;
  const std::vector<StallsOfClass> sums = stalls_by_class(subject.plan.program, found);
  for (const StallsOfClass& s : sums) by_class += s.seconds;
  EXPECT_NEAR(by_class.value(), sum.value(), 1e-9);
  EXPECT_TRUE(std::ranges::is_sorted(sums, std::greater<>(), &StallsOfClass::seconds));
}

TEST(Stalls, NameTheCopyThatEndedLast) {
  plan::Program program;
  program.calls.resize(2);
  program.tensors.resize(2);
  const plan::Boundary begin(0), end(1);
  for (const plan::TensorIndex t : program.tensors.indices()) {
    program.residencies.push_back({t, begin, end, Bytes(0), plan::Origin::fetched});
    program.copies.push_back({program.residencies.end_index() - 1, plan::Direction::in, 0, Bytes(0), begin, end});
  }
  sim::Timeline timeline;
  timeline.calls = {{0, 0, 1}, {1, 1.5, 2}};
  timeline.copies_in = {{0, 0, 0.5}, {1, 0.5, 1.5}};
  timeline.step = Seconds(2);
  const std::vector<Stall> found = stalls(program, timeline);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].copy, 1);
  EXPECT_EQ(found[0].boundary, end);
  EXPECT_DOUBLE_EQ(found[0].start, 1);
  EXPECT_DOUBLE_EQ(found[0].seconds.value(), 0.5);
}

TEST(Stalls, AGapWithoutACopyIsNone) {
  plan::Program program;
  program.calls.resize(2);
  sim::Timeline timeline;
  timeline.calls = {{0, 0, 1}, {1, 5, 6}};
  timeline.step = Seconds(6);
  EXPECT_TRUE(stalls(program, timeline).empty());
}

}  // namespace
}  // namespace memo::report
