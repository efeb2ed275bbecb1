// The probe of tiers, on an engine and a piece of work whose clock the test moves.
#include "memo/exec/probe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace memo::exec {
namespace {

using plan::Direction;

// Copies of a direction follow each other, and each takes `copy_seconds`.
class ClockedEngine : public CopyEngine {
 public:
  double time = 0, copy_seconds = 1e-3;

  [[nodiscard]] bool busy() const { return std::max(lanes_[0].free, lanes_[1].free) > time; }
  Ticket start(const CopyRequest& request, int index) override {
    Lane& lane = lanes_.at(static_cast<std::size_t>(request.direction));
    const double begin = std::max(time, lane.free);
    lane.free = begin + copy_seconds;
    lane.spans.push_back({index, begin, lane.free});
    return ++lane.started;
  }
  Status wait(Ticket) override { return {}; }
  Status drain() override {
    time = std::max({time, lanes_[0].free, lanes_[1].free});
    return {};
  }
  [[nodiscard]] double now() const override { return time; }
  std::vector<Span> take_spans(Direction direction) override {
    return std::exchange(lanes_.at(static_cast<std::size_t>(direction)).spans, {});
  }

 private:
  struct Lane {
    double free = 0;
    Ticket started = 0;
    std::vector<Span> spans;
  };
  std::array<Lane, 2> lanes_;
};

// Copies of 8 requests take 8 ms, and work is timed for 250 ms: all of that time must have copies beside it.
TEST(Probe, CopiesRunAllTheTimeThatWorkIsTimed) {
  ClockedEngine engine;
  std::array<std::byte, 2 * 4096> memory{};
  const auto work = [&] {
    engine.time += engine.busy() ? 3e-3 : 2e-3;
    engine.copy_seconds = 4e-3;  // of copies that start from now on
  };
  const auto rates = measure_tier(engine, memory.data(), Bytes(8 * 4096), Bytes(4096), work);
  ASSERT_TRUE(rates);
  EXPECT_NEAR(rates->compute_slowdown, 1.5, 1e-9);
  for (const BytesPerSecond alone : {rates->write, rates->read, rates->write_with_read, rates->read_with_write})
    EXPECT_NEAR(alone.value(), 4096 / 1e-3, 1);
  for (const BytesPerSecond beside : {rates->write_with_compute, rates->read_with_compute})
    EXPECT_NEAR(beside.value(), 4096 / 4e-3, 1);
}

}  // namespace
}  // namespace memo::exec
