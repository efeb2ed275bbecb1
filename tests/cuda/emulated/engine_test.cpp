// What the engine asks of the runtime: large copies, and nothing in a step that could stop the GPU or the host.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <thread>

#include "tests/cuda/emulated/gpu.h"
#include "tests/cuda/pattern_step.h"
#include "tests/cuda/small_plans.h"
#include "tests/exec/fake_tier.h"

namespace memo::cuda::emulated {
namespace {

using plan::Direction;
constexpr std::int64_t block = 4096;

struct Engine : testing::Test {
  // The copy of `blocks` from block `device` of `memory` to block `tier` of the only tier.
  exec::CopyRequest out(std::int64_t device, std::int64_t tier, std::int64_t blocks = 1) {
    return {memory + device * block, Bytes(blocks * block), Direction::out, 0, Bytes(tier * block)};
  }
  // How many copies the runtime is asked for when all are started at once.
  std::int64_t copies(const std::vector<exec::CopyRequest>& requests) {
    const std::int64_t before = calls("cudaMemcpyAsync");
    for (const exec::CopyRequest& request : requests) engine->start(request, 0);
    engine->submit();
    return calls("cudaMemcpyAsync") - before;
  }

  Gpu gpu;
  std::byte* memory = gpu.memory(32 << 20);
  std::unique_ptr<exec::TierStore> tier = gpu.host_tier(Bytes(32 << 20));
  std::unique_ptr<exec::CopyEngine> engine = gpu.engine({tier.get()});
};

TEST_F(Engine, NeighboursOnBothSidesMoveAtOnce) {
  EXPECT_EQ(copies({out(0, 10, 2), out(2, 12), out(3, 13, 5)}), 1);
  EXPECT_EQ(copies({out(0, 10), out(1, 12)}), 2) << "a gap on the tier";
  EXPECT_EQ(copies({out(0, 10), out(2, 11)}), 2) << "a gap on the device";
  EXPECT_EQ(copies({out(1, 11), out(0, 10)}), 2) << "in order only";
  exec::CopyRequest in = out(1, 11);
  in.direction = Direction::in;
  EXPECT_EQ(copies({out(0, 10), in}), 2);
  EXPECT_EQ(copies({out(0, 10)}) + copies({out(1, 11)}), 2) << "not across boundaries";
}

TEST_F(Engine, ButNotMoreThanEightMebibytes) {
  std::vector<exec::CopyRequest> requests;
  for (int i = 0; i < 20; ++i) requests.push_back(out(i * 256, i * 256, 256));
  EXPECT_EQ(copies(requests), 3);
}

TEST_F(Engine, CopiesThatMovedAtOnceHaveSpansOfTheirOwn) {
  for (int i = 0; i < 3; ++i) engine->start(out(i * 16, i * 16, 16), 7 + i);
  ASSERT_TRUE(engine->drain());
  const auto spans = engine->take_spans(Direction::out);
  ASSERT_EQ(spans.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(spans[i].index, 7 + static_cast<int>(i));
    EXPECT_EQ(spans[i].start, i == 0 ? spans[0].start : spans[i - 1].end);
  }
}

TEST_F(Engine, CopiesThatMovedAtOnceShareAFailure) {
  exec::FakeTier broken(8 * block);
  broken.fail_at(Direction::out, 2 * block, "fake tier: broken block");
  engine = gpu.engine({&broken});
  const exec::Ticket before = engine->start(out(0, 0), 0), a = engine->start(out(4, 2), 1),
                     b = engine->start(out(5, 3), 2), after = engine->start(out(0, 5), 3);
  EXPECT_TRUE(engine->wait(before));
  EXPECT_FALSE(engine->wait(a));
  EXPECT_FALSE(engine->wait(b));
  EXPECT_TRUE(engine->wait(after));
}

// From the second step on; the first makes as many events as copies are ever in flight.
TEST(EngineInAStep, NothingIsAllocatedRegisteredOrWaitedForByTheHost) {
  for (const Pace pace : {Pace::prompt, Pace::late}) {
    Gpu gpu({.pace = pace});
    const plan::Plan plan = paged_plan(2);
    const auto tier = gpu.host_tier(plan.program.tier_bytes[0]);
    const auto engine = gpu.engine({tier.get()});
    PatternStep step(gpu, plan, *tier);
    ASSERT_TRUE(step.play(*engine));
    const std::vector<std::string> rare = {
        "cudaMalloc",           "cudaHostRegister",         "cudaStreamSynchronize",
        "cudaEventSynchronize", "cudaEventCreateWithFlags", "cudaStreamCreateWithFlags"};
    const auto count = [&] {
      std::map<std::string, std::int64_t> result;
      for (const std::string& function : rare) result[function] = calls(function);
      return result;
    };
    const auto begin = count();
    ASSERT_TRUE(engine->drain());
    const auto drained = count();
    ASSERT_TRUE(step.play(*engine));
    const auto end = count();
    for (const std::string& function : rare)
      EXPECT_EQ(end.at(function) - drained.at(function), drained.at(function) - begin.at(function))
          << function << ": a step does what its drain alone does";
    EXPECT_EQ(drained.at("cudaMalloc"), begin.at("cudaMalloc"));
    EXPECT_EQ(step.wrong, 0);
  }
}

// Calls are enqueued at once and run later: what is reported is when they ran.
TEST(EngineInAStep, TheReportTellsWhenCallsRanOnTheGpu) {
  static constexpr std::chrono::milliseconds call_time{3};
  Gpu gpu({.pace = Pace::late});
  struct Sleep : exec::Compute {
    explicit Sleep(cudaStream_t on) : stream(on) {}
    Status run(plan::CallIndex) override {
      return check(cudaLaunchHostFunc(
                       stream, [](void*) { std::this_thread::sleep_for(call_time); }, nullptr),
                   "run");
    }
    cudaStream_t stream;
  } compute(gpu.device->compute());
  plan::Program program;
  program.calls.resize(3);
  const auto engine = gpu.engine({});
  const double before = engine->now();
  const auto report = exec::run_step(program, nullptr, compute, *engine);
  ASSERT_TRUE(report);
  ASSERT_EQ(report->calls.size(), 3u);
  double end = before;
  for (const exec::Span& call : report->calls) {
    EXPECT_GE(call.start, end);
    EXPECT_GE(call.end - call.start, 0.99 * std::chrono::duration<double>(call_time).count());
    end = call.end;
  }
  EXPECT_LE(end, engine->now());
}

}  // namespace
}  // namespace memo::cuda::emulated
