// Timelines of small programs whose times can be worked out by hand.
#include "memo/sim/simulate.h"

#include <gtest/gtest.h>

namespace memo::sim {
namespace {

using plan::Direction;

// Three calls of one second; a tier of 100 bytes a second each way, 50 when both directions run.
struct Machine {
  plan::Profile profile;
  plan::Program program;

  explicit Machine(double slowdown = 1) {
    profile.flow.classes = {{"a", model::TensorRole::other, Bytes(1)}};
    profile.traces.push_back({{}, false, Tokens(1), Seconds(1), {}});
    profile.tiers = {{"disk", Bytes(1 << 20), BytesPerSecond(100), BytesPerSecond(100), BytesPerSecond(50),
                      BytesPerSecond(50), slowdown, 1}};
    program.calls.resize(3);
  }
  void copy(Direction direction, std::int64_t bytes, int at, int before) {
    program.tensors.push_back({{}, {}, {}, 0, Bytes(bytes)});
    program.residencies.push_back({program.tensors.end_index() - 1, plan::Boundary(0), plan::Boundary(3), Bytes(0)});
    program.copies.push_back(
        {program.residencies.end_index() - 1, direction, 0, Bytes(0), plan::Boundary(at), plan::Boundary(before)});
  }
  [[nodiscard]] Timeline play() const { return simulate(profile, program); }
};

TEST(Simulate, ComputeAloneTakesTheSumOfItsCalls) {
  const Timeline timeline = Machine().play();
  EXPECT_DOUBLE_EQ(timeline.step.value(), 3);
  EXPECT_DOUBLE_EQ(timeline.stall.value(), 0);
}

TEST(Simulate, ACopyUnderComputeCostsNothing) {
  Machine machine;
  machine.copy(Direction::out, 200, 1, 3);
  const Timeline timeline = machine.play();
  EXPECT_DOUBLE_EQ(timeline.step.value(), 3);
  EXPECT_DOUBLE_EQ(timeline.copies_out.at(0).start, 1);
  EXPECT_DOUBLE_EQ(timeline.copies_out.at(0).end, 3);
  EXPECT_EQ(timeline.bytes_out, Bytes(200));
}

TEST(Simulate, ACopyThatIsNeededTooSoonStallsCompute) {
  Machine machine;
  machine.copy(Direction::in, 250, 0, 1);  // 2.5 s, of which one hides under the first call
  const Timeline timeline = machine.play();
  EXPECT_NEAR(timeline.stall.value(), 1.5, 1e-9);
  EXPECT_NEAR(timeline.step.value(), 4.5, 1e-9);
}

TEST(Simulate, CopiesOfOneDirectionFollowOneAnother) {
  Machine machine;
  machine.copy(Direction::out, 100, 0, 3);
  machine.copy(Direction::out, 100, 0, 3);
  const Timeline timeline = machine.play();
  EXPECT_DOUBLE_EQ(timeline.copies_out.at(1).start, 1);
  EXPECT_DOUBLE_EQ(timeline.copies_out.at(1).end, 2);
}

TEST(Simulate, DirectionsShareTheTier) {
  Machine machine;
  machine.copy(Direction::out, 100, 0, 3);
  machine.copy(Direction::in, 50, 0, 3);
  const Timeline timeline = machine.play();
  EXPECT_DOUBLE_EQ(timeline.copies_in.at(0).end, 1);     // 50 bytes at 50 a second
  EXPECT_DOUBLE_EQ(timeline.copies_out.at(0).end, 1.5);  // 50 of its bytes at 50, the rest at 100
}

TEST(Simulate, LongStepsEnd) {  // the clock of a step of days is coarser than a short call
  Machine machine(1.1);
  machine.profile.traces.push_back({{}, false, Tokens(1), Seconds(1e6), {}});
  machine.program.calls.front().trace = plan::TraceIndex(1);
  machine.copy(Direction::out, 1, 1, 2);
  machine.copy(Direction::in, 3, 1, 3);
  EXPECT_NEAR(machine.play().step.value(), 1e6 + 2, 1);
}

TEST(Simulate, ComputeSlowsWhileCopiesRun) {
  Machine machine(1.25);
  machine.copy(Direction::out, 125, 0, 3);  // 1.25 s: one second's worth of compute at 1.25
  EXPECT_NEAR(machine.play().step.value(), 3.25, 1e-9);
}

}  // namespace
}  // namespace memo::sim
