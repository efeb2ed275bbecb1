// The walk over boundaries: its exact order against a recording engine, then programs that really move bytes through
// the CPU's copy engine and slow, seeded tiers.
#include "memo/exec/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "memo/exec/cpu_copies.h"
#include "tests/exec/fake_tier.h"

namespace memo::exec {
namespace {

using plan::Direction;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t block = 4096;

class ScriptedCompute : public Compute {
 public:
  explicit ScriptedCompute(std::function<Status(int)> script) : script_(std::move(script)) {}
  Status run(plan::CallIndex call) override { return script_(call.value()); }

 private:
  std::function<Status(int)> script_;
};

// Writes down what it is asked. Its clock moves by `wait_seconds` a wait, and as the test says.
class RecordingEngine : public CopyEngine {
 public:
  explicit RecordingEngine(std::vector<std::string>& log) : log_(log) {}
  Ticket start(const CopyRequest& request, int index) override {
    requests.push_back(request);
    log_.push_back("start " + std::to_string(index));
    return 1000 + index;
  }
  Status wait(Ticket ticket) override {
    log_.push_back("wait " + std::to_string(ticket - 1000));
    time += wait_seconds;
    return {};
  }
  Status drain() override {
    log_.push_back("drain");
    return {};
  }
  [[nodiscard]] double now() const override { return time; }
  std::vector<Span> take_spans(Direction) override { return {}; }

  std::vector<CopyRequest> requests;
  double time = 5, wait_seconds = 0;

 private:
  std::vector<std::string>& log_;
};

// `calls` calls and no copies; tensor i has i + 1 blocks and one residency, at block 10 i of the arena.
plan::Program program_of(std::size_t calls, int tensors) {
  plan::Program program;
  program.calls.resize(calls);
  for (int i = 0; i < tensors; ++i) {
    program.tensors.push_back(
        {plan::ClassIndex(i), plan::LayerIndex(1), plan::BlockIndex(2), 0, Bytes((i + 1) * block)});
    program.residencies.push_back({plan::TensorIndex(i), {}, {}, Bytes(10 * i * block)});
  }
  return program;
}

plan::Copy copy_of(int residency, Direction direction, int at, int before) {
  return {plan::ResidencyIndex(residency), direction, 0, Bytes(0), plan::Boundary(at), plan::Boundary(before)};
}

std::vector<std::byte> memory(1 << 20);  // an arena that holds nothing

TEST(Executor, AtABoundaryWaitsComeFirstThenStartsThenTheCall) {
  plan::Program program = program_of(3, 4);
  program.copies = {copy_of(0, Direction::in, 0, 2), copy_of(1, Direction::out, 1, 3), copy_of(2, Direction::out, 1, 2),
                    copy_of(3, Direction::in, 2, 3)};
  std::vector<std::string> log;
  RecordingEngine engine(log);
  ScriptedCompute compute([&](int call) {
    log.push_back("run " + std::to_string(call));
    return Status();
  });
  ASSERT_TRUE(run_step(program, memory.data(), compute, engine));
  EXPECT_THAT(log, ElementsAre("start 0", "run 0",                      // boundary 0
                               "start 1", "start 2", "run 1",           // 1
                               "wait 0", "wait 2", "start 3", "run 2",  // 2
                               "wait 1", "wait 3", "drain"));           // the end
}

TEST(Executor, ACopyIsOfItsResidencysTensorAtItsPlaces) {
  plan::Program program = program_of(2, 3);
  program.copies = {copy_of(2, Direction::out, 0, 1), copy_of(1, Direction::in, 1, 2)};
  program.copies[0].tier = 1;
  program.copies[0].tier_offset = Bytes(5 * block);
  program.copies[1].tier_offset = Bytes(7 * block);
  std::vector<std::string> log;
  RecordingEngine engine(log);
  ScriptedCompute compute([](int) { return Status(); });
  std::vector<std::byte> arena(1);
  const auto report = run_step(program, arena.data(), compute, engine);
  ASSERT_TRUE(report);
  ASSERT_EQ(engine.requests.size(), 2u);
  EXPECT_EQ(engine.requests[0].device, arena.data() + 20 * block);
  EXPECT_EQ(engine.requests[0].bytes, Bytes(3 * block));
  EXPECT_EQ(engine.requests[0].direction, Direction::out);
  EXPECT_EQ(engine.requests[0].tier, 1);
  EXPECT_EQ(engine.requests[0].tier_offset, Bytes(5 * block));
  EXPECT_EQ(engine.requests[1].device, arena.data() + 10 * block);
  EXPECT_EQ(engine.requests[1].bytes, Bytes(2 * block));
  EXPECT_EQ(engine.requests[1].direction, Direction::in);
  EXPECT_EQ(report->bytes_out, Bytes(3 * block));
  EXPECT_EQ(report->bytes_in, Bytes(2 * block));
}

TEST(Executor, StallIsTheTimeThatComputeWaited) {
  plan::Program program = program_of(3, 2);
  program.copies = {copy_of(0, Direction::out, 0, 2), copy_of(1, Direction::in, 1, 2)};
  std::vector<std::string> log;
  RecordingEngine engine(log);
  engine.wait_seconds = 10;
  ScriptedCompute compute([&](int) {
    engine.time += 100;
    return Status();
  });
  const auto report = run_step(program, memory.data(), compute, engine);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->stall, Seconds(20));
  EXPECT_EQ(report->step, Seconds(320));
  ASSERT_EQ(report->calls.size(), 3u);
  EXPECT_EQ(report->calls[2].index, 2);
  EXPECT_EQ(report->calls[2].start, 225);
  EXPECT_EQ(report->calls[2].end, 325);
}

TEST(Executor, AnEmptyProgramIsAStep) {
  std::vector<std::string> log;
  RecordingEngine engine(log);
  ScriptedCompute compute([](int) { return Status(); });
  EXPECT_TRUE(run_step(plan::Program(), nullptr, compute, engine));
  EXPECT_THAT(log, ElementsAre("drain"));
}

TEST(ExecutorDeathTest, ACopyThatIsWaitedForWhenItStartsBreaksAnInvariant) {
  plan::Program program = program_of(2, 1);
  program.copies = {copy_of(0, Direction::out, 1, 1)};
  std::vector<std::string> log;
  RecordingEngine engine(log);
  ScriptedCompute compute([](int) { return Status(); });
  EXPECT_DEATH((void)run_step(program, memory.data(), compute, engine), "waited for at a later one");
}

// A step in small: `tensors` produced one a call through a ring of `slots`, each copied out; a pause in which the arena
// is poisoned; then each fetched ahead through a second ring and checked, last first. Sizes are uneven, tiers
// alternate.
struct RoundTrip {
  RoundTrip(int tensors, int slots, std::uint64_t seed) : tensors(tensors), slots(slots) {
    constexpr int most_blocks = 7;
    std::mt19937_64 random(seed);
    poison_call = tensors + slots;
    first_check = tensors + 2 * slots;
    const int calls = first_check + tensors;
    program.calls.resize(static_cast<std::size_t>(calls));
    program.arena = Bytes(2 * slots * most_blocks * block);
    program.tier_bytes.resize(2);
    const auto slot_offset = [](int slot) { return Bytes(slot * most_blocks * block); };
    std::vector<plan::Copy> ins;
    for (int t = 0; t < tensors; ++t) {
      const Bytes bytes(static_cast<std::int64_t>(1 + random() % most_blocks) * block);
      program.tensors.push_back({plan::ClassIndex(0), plan::LayerIndex(3), plan::BlockIndex(t), 0, bytes});
      const int fetched = tensors - 1 - t, use = first_check + fetched;  // the order of fetches is reversed
      const plan::TensorIndex tensor(t);
      const plan::Boundary made(t), used_at(use);
      const plan::Residency produced{tensor, made, made + slots, slot_offset(t % slots), plan::Origin::produced};
      const plan::Residency returned{tensor, used_at - slots + 1, used_at + 1, slot_offset(slots + fetched % slots),
                                     plan::Origin::fetched};
      Bytes& used = program.tier_bytes[static_cast<std::size_t>(t % 2)];
      const plan::ResidencyIndex residency = program.residencies.end_index();
      program.residencies.insert(program.residencies.end(), {produced, returned});
      program.copies.push_back({residency, Direction::out, t % 2, used, made + 1, made + slots});
      ins.push_back({residency + 1, Direction::in, t % 2, used, returned.begin, used_at});
      used += bytes;
    }
    program.copies.insert(program.copies.end(), ins.rbegin(), ins.rend());
    arena.resize(static_cast<std::size_t>(program.arena.value()));
    for (const Bytes bytes : program.tier_bytes) tiers.push_back(std::make_unique<FakeTier>(bytes.value()));
    engine = cpu_copy_engine({tiers[0].get(), tiers[1].get()});
  }

  // Words of a pattern that differs by tensor, place and step.
  [[nodiscard]] std::uint64_t word(int tensor, std::size_t at) const {
    return (static_cast<std::uint64_t>(step) << 48) + (static_cast<std::uint64_t>(tensor) << 32) + at;
  }
  [[nodiscard]] std::size_t words(int tensor) const {
    return static_cast<std::size_t>(program.tensors[plan::TensorIndex(tensor)].bytes.value()) / 8;
  }
  std::byte* slot(int tensor, bool fetched) {
    const plan::ResidencyIndex residency(2 * tensor + (fetched ? 1 : 0));
    return arena.data() + program.residencies[residency].offset.value();
  }

  Status run(int call) {
    if (call < tensors) {
      for (std::size_t i = 0; i < words(call); ++i) {
        const std::uint64_t value = word(call, i);
        std::memcpy(slot(call, false) + 8 * i, &value, 8);
      }
    } else if (call == poison_call) {
      std::fill(arena.begin(), arena.end(), std::byte{0xEE});
    } else if (call >= first_check) {
      const int tensor = tensors - 1 - (call - first_check);
      for (std::size_t i = 0; i < words(tensor); ++i) {
        std::uint64_t value = 0;
        std::memcpy(&value, slot(tensor, true) + 8 * i, 8);
        if (value != word(tensor, i)) ++wrong_words;
      }
    }
    return {};
  }

  Result<StepReport> play() {
    ++step;
    ScriptedCompute compute([this](int call) { return run(call); });
    return run_step(program, arena.data(), compute, *engine);
  }
  // `call` or copy fails in the next step; -1: none.
  Result<StepReport> play_failing_at(int call, const Error& error) {
    ++step;
    ScriptedCompute compute([=, this](int k) { return k == call ? Status(tl::unexpected(error)) : run(k); });
    return run_step(program, arena.data(), compute, *engine);
  }
  [[nodiscard]] std::size_t copies_ended() const {
    std::size_t count = 0;
    for (const auto& tier : tiers) count += tier->ended(Direction::out).size() + tier->ended(Direction::in).size();
    return count;
  }

  int tensors, slots, poison_call = 0, first_check = 0, step = 0;
  int wrong_words = 0;
  plan::Program program;
  std::vector<std::byte> arena;
  std::vector<std::unique_ptr<FakeTier>> tiers;
  std::unique_ptr<CopyEngine> engine;  // last: its threads use the rest
};

TEST(Executor, TensorsReturnAsProducedWhateverTheTiersDelays) {
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    RoundTrip trip(20, 2 + static_cast<int>(seed % 4), seed);
    for (int step = 0; step < 3; ++step) {
      // From none to longer than the calls take.
      for (const auto& tier : trip.tiers) tier->delay(seed * 3 + step, std::chrono::microseconds(150 * (seed % 5)));
      ASSERT_TRUE(trip.play());
      ASSERT_EQ(trip.wrong_words, 0) << "seed " << seed << ", step " << step;
    }
  }
}

TEST(Executor, ARoundTripThatCopiesNothingBackIsNoticed) {  // the check above can fail
  RoundTrip trip(6, 2, 1);
  std::erase_if(trip.program.copies, [](const plan::Copy& copy) { return copy.direction == Direction::in; });
  ASSERT_TRUE(trip.play());
  EXPECT_GT(trip.wrong_words, 0);
}

TEST(Executor, SpansLieBetweenTheBoundariesOfTheProgram) {
  RoundTrip trip(20, 3, 7);
  for (const auto& tier : trip.tiers) tier->delay(7, std::chrono::microseconds(400));
  for (int step = 0; step < 2; ++step) {  // the second step reports its own spans only
    const auto report = trip.play();
    ASSERT_TRUE(report);
    ASSERT_EQ(report->calls.size(), trip.program.calls.size());
    ASSERT_EQ(report->copies_out.size(), 20u);
    ASSERT_EQ(report->copies_in.size(), 20u);
    for (std::size_t k = 1; k < report->calls.size(); ++k)
      EXPECT_GE(report->calls[k].start, report->calls[k - 1].end) << "call " << k;
    for (const auto* spans : {&report->copies_out, &report->copies_in})
      for (const Span& span : *spans) {
        const plan::Copy& copy = trip.program.copies[static_cast<std::size_t>(span.index)];
        const std::size_t start = at(copy.at.value()), before = at(copy.before.value());
        if (start > 0) {
          EXPECT_GE(span.start, report->calls[start - 1].end) << "copy " << span.index;
        }
        if (before < report->calls.size()) {
          EXPECT_LE(span.end, report->calls[before].start) << "copy " << span.index;
        }
      }
    EXPECT_EQ(report->bytes_out, trip.program.tier_bytes[0] + trip.program.tier_bytes[1]);
    EXPECT_EQ(report->bytes_in, report->bytes_out);
    EXPECT_LE(report->stall, report->step);
    EXPECT_GE(report->step.value(), report->calls.back().end - report->calls.front().start);
  }
}

TEST(Executor, AFailedCallIsNamedAndNothingIsLeftInFlight) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    RoundTrip trip(12, 3, seed);
    for (const auto& tier : trip.tiers) tier->delay(seed, std::chrono::microseconds(2000));
    const int call = static_cast<int>(5 + seed * 3);
    auto& failing = trip.program.calls[plan::CallIndex(call)];
    failing.segment = plan::SegmentIndex(2), failing.phase = plan::Phase::backward;
    failing.layer = plan::LayerIndex(4), failing.block = plan::BlockIndex(9);
    const auto report = trip.play_failing_at(call, {ErrorKind::interrupted, "stopped by hand"});
    const std::size_t ended = trip.copies_ended();
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().kind, ErrorKind::interrupted);
    EXPECT_EQ(report.error().message,
              "call " + std::to_string(call) + " (backward of segment 2, layer 4, block 9): stopped by hand");
    const auto started = static_cast<std::size_t>(
        std::count_if(trip.program.copies.begin(), trip.program.copies.end(),
                      [&](const plan::Copy& copy) { return copy.at <= plan::Boundary(call); }));
    EXPECT_EQ(ended, started);
    const auto next = trip.play();
    ASSERT_TRUE(next) << "the next step runs";
    EXPECT_EQ(next->copies_out.size(), 12u) << "and reports nothing of the failed one";
    EXPECT_EQ(trip.wrong_words, 0);
  }
}

TEST(Executor, AFailedCopyIsNamedBeforeItsTensorIsUsed) {
  for (const Direction direction : {Direction::out, Direction::in}) {
    RoundTrip trip(12, 3, 5);
    const auto copy = std::find_if(trip.program.copies.begin(), trip.program.copies.end(), [&](const plan::Copy& c) {
      return c.direction == direction && trip.program.residencies[c.residency].tensor == plan::TensorIndex(7);
    });
    trip.tiers[1]->fail_at(direction, copy->tier_offset.value(), "fake tier: broken block");
    int last_call = -1;
    ScriptedCompute compute([&](int call) {
      last_call = call;
      return trip.run(call);
    });
    const auto report = run_step(trip.program, trip.arena.data(), compute, *trip.engine);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().kind, ErrorKind::run_time);
    EXPECT_EQ(report.error().message,
              "copy " + std::to_string(copy - trip.program.copies.begin()) + " (class 0, layer 3, block 7, group 0, " +
                  (direction == Direction::out ? "out to" : "in from") + " tier 1): fake tier: broken block");
    EXPECT_EQ(last_call, copy->before.value() - 1);
    trip.tiers[1]->heal();
    trip.wrong_words = 0;
    EXPECT_TRUE(trip.play()) << "the engine keeps nothing of the failed step";
    EXPECT_EQ(trip.wrong_words, 0);
  }
}

}  // namespace
}  // namespace memo::exec
