// The watchdog speaks when nothing moves, and names who waits for what. Bounds are small; nothing is said about how
// late it may be.
#include "memo/exec/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <vector>

#include "memo/exec/cpu_copies.h"
#include "tests/exec/fake_tier.h"

namespace memo::exec {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Seconds patience{0.05};

TEST(Watchdog, SaysNothingWhereNothingIsUnderWay) {
  bool spoke = false;
  {
    Watchdog dog(Seconds(0.002), [&](const std::string&) { spoke = true; });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_FALSE(spoke);
}

TEST(Watchdog, ALongWaitWithProgressBesideItIsNone) {
  bool spoke = false;
  {
    Watchdog dog(Seconds(10), [&](const std::string&) { spoke = true; });
    const Watchdog::Guard waiting(&dog, [] { return "a wait"; });
    for (int i = 0; i < 20; ++i) {
      const Watchdog::Guard moving(&dog, [] { return "a copy"; });
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  EXPECT_FALSE(spoke);
}

TEST(Watchdog, LongWorkMayShowThatItMoves) {
  bool spoke = false;
  {
    Watchdog dog(Seconds(10), [&](const std::string&) { spoke = true; });
    Watchdog::Guard long_work(&dog, [] { return "a checkpoint"; });
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      long_work.moved();
    }
  }
  EXPECT_FALSE(spoke);
}

// Otherwise a device would wait for a thread of the host in every copy.
TEST(Watchdog, ADeviceReachesAWatchedTierByItself) {
  Watchdog dog(Seconds(10), [](const std::string&) {});
  const std::shared_ptr<std::byte> memory(new std::byte[64], std::default_delete<std::byte[]>());
  for (const bool pinned : {true, false}) {
    const auto tier = watched(memory_tier(memory, Bytes(64), pinned), dog, "host");
    EXPECT_EQ(tier->pinned(16, 8), pinned ? memory.get() + 16 : nullptr);
  }
}

TEST(Watchdog, WithoutOneNobodyWatches) {
  std::promise<std::string> said;
  std::future<std::string> what = said.get_future();
  Watchdog dog(patience, [&](const std::string& names) { said.set_value(names); });
  Watchdog::Guard unwatched(nullptr, [] { return "what nobody watches"; });
  const Watchdog::Guard watched(&dog, [] { return "what the dog watches"; });
  while (what.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) unwatched.moved();
  EXPECT_EQ(what.get(), "nothing has moved for 50.0 ms: what the dog watches");
}

TEST(Watchdog, NamesAllThatIsUnderWay) {
  std::promise<std::string> said;
  Watchdog dog(patience, [&](const std::string& what) { said.set_value(what); });  // twice would throw
  const Watchdog::Guard first(&dog, [] { return "compute waits for this"; });
  const Watchdog::Guard second(&dog, [] { return "that is under way"; });
  EXPECT_EQ(said.get_future().get(), "nothing has moved for 50.0 ms: compute waits for this; that is under way");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

TEST(Watchdog, AStuckTierIsNamedWithTheTensorThatComputeWaitsFor) {
  constexpr std::int64_t block = 4096;
  plan::Program program;
  program.calls.resize(2);
  program.tensors = {{{}, plan::LayerIndex(3), plan::BlockIndex(5), 0, Bytes(block)}};
  program.residencies = {{{}, plan::Boundary(0), plan::Boundary(2), Bytes(0)}};
  program.copies = {{{}, plan::Direction::out, 0, Bytes(block), plan::Boundary(0), plan::Boundary(1)}};
  model::Dataflow flow;
  flow.classes = {{"x1", model::TensorRole::residual, Bytes(64)}};

  auto made = std::make_unique<FakeTier>(2 * block);
  FakeTier& stuck = *made;
  std::string said;
  Watchdog dog(patience, [&](const std::string& what) {
    said = what;
    stuck.release(plan::Direction::out);
  });
  const auto tier = watched(std::move(made), dog, "disk");
  const auto engine = cpu_copy_engine({tier.get()});
  const auto copies = watched(*engine, dog, program, flow);
  std::vector<std::byte> arena(block);
  stuck.hold(plan::Direction::out);
  struct Nothing : Compute {
    Status run(plan::CallIndex) override { return {}; }
  } compute;
  EXPECT_TRUE(run_step(program, arena.data(), compute, *copies)) << "what was released goes on";
  EXPECT_THAT(said, AllOf(HasSubstr("compute waits for copy 0 (x1, layer 3, block 5, out to tier 0)"),
                          HasSubstr("disk tier: a write of 4.00 KiB at offset 4096 is under way")));
}

}  // namespace
}  // namespace memo::exec
