// What every copy engine promises (memo/exec/executor.h), as tests: each runs for every backend that instantiates them.
#include "tests/exec/copy_engine_contract.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <random>
#include <thread>
#include <utility>

#include "tests/exec/fake_tier.h"

namespace memo::exec::copy_engine_contract {
namespace {

constexpr std::int64_t block = 4096;
constexpr auto out = plan::Direction::out, in = plan::Direction::in;
constexpr auto soon = std::chrono::milliseconds(20);  // long enough for what must not happen to happen

std::vector<std::byte> random_bytes(std::mt19937_64& random, std::int64_t size) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// One block between the start of `memory` and block `n` of the only tier.
CopyRequest copy_of(std::byte* memory, plan::Direction direction, std::int64_t n) {
  return {.device = memory, .bytes = Bytes(block), .direction = direction, .tier = 0, .tier_offset = Bytes(n * block)};
}

TEST_P(CopyEngineContract, BytesReturnAsTheyLeftInAnyOrderAndSize) {
  std::mt19937_64 random(1);
  struct Piece {
    std::int64_t device, tier;
    std::vector<std::byte> bytes;
  };
  std::vector<Piece> pieces;
  std::int64_t total = 0;
  for (int i = 0; i < 120; ++i) {
    // Mostly odd small counts of blocks; some span several requests of a tier.
    const std::int64_t blocks = i % 30 == 29 ? 511 + 2 * static_cast<std::int64_t>(random() % 400) : 1 + random() % 23;
    pieces.push_back({total, 0, random_bytes(random, blocks * block)});
    total += blocks * block;
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  std::int64_t at = 0;
  for (Piece& piece : pieces) piece.tier = std::exchange(at, at + static_cast<std::int64_t>(piece.bytes.size()));

  const auto tier = kind->tier(Bytes(total));  // full to its last byte
  if (tier == nullptr) GTEST_SKIP() << kind->refusal;
  const auto engine = kind->engine({tier.get()});
  std::byte* memory = kind->memory(static_cast<std::size_t>(total));
  const auto request = [&](const Piece& piece, plan::Direction direction) {
    return CopyRequest{.device = memory + piece.device,
                       .bytes = Bytes(static_cast<std::int64_t>(piece.bytes.size())),
                       .direction = direction,
                       .tier = 0,
                       .tier_offset = Bytes(piece.tier)};
  };
  for (const Piece& piece : pieces) kind->write(memory + piece.device, piece.bytes);
  std::vector<Ticket> tickets;
  for (const Piece& piece : pieces) tickets.push_back(engine->start(request(piece, out), 0));
  const std::vector<std::byte> poison(static_cast<std::size_t>(total), std::byte{0xEE});
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    ASSERT_TRUE(engine->wait(tickets[i]));
    kind->write(memory + pieces[i].device, std::span(poison).first(pieces[i].bytes.size()));
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  tickets.clear();
  for (const Piece& piece : pieces) tickets.push_back(engine->start(request(piece, in), 0));
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    ASSERT_TRUE(engine->wait(tickets[i]));
    ASSERT_EQ(kind->read(memory + pieces[i].device, pieces[i].bytes.size()), pieces[i].bytes) << "piece " << i;
  }
}

TEST_P(CopyEngineContract, ReadsAndWritesOfOneTierRunTogether) {
  std::mt19937_64 random(2);
  constexpr int pieces = 64;
  const std::int64_t size = 37 * block;
  const auto tier = kind->tier(Bytes(2 * pieces * size));
  if (tier == nullptr) GTEST_SKIP() << kind->refusal;
  const auto engine = kind->engine({tier.get()});
  std::byte* memory = kind->memory(static_cast<std::size_t>(2 * pieces * size));
  const std::vector<std::byte> content = random_bytes(random, 2 * pieces * size);
  kind->write(memory, content);
  const auto start = [&](plan::Direction direction, std::int64_t piece) {
    engine->start({memory + piece * size, Bytes(size), direction, 0, Bytes(piece * size)}, static_cast<int>(piece));
  };
  for (int i = 0; i < pieces; ++i) start(out, i);
  ASSERT_TRUE(engine->drain());
  kind->write(memory, std::vector<std::byte>(static_cast<std::size_t>(pieces * size)));
  for (int i = 0; i < pieces; ++i) {
    start(in, pieces - 1 - i);
    start(out, pieces + i);
  }
  ASSERT_TRUE(engine->drain());
  kind->write(memory + pieces * size, std::vector<std::byte>(static_cast<std::size_t>(pieces * size)));
  for (int i = pieces; i < 2 * pieces; ++i) start(in, i);
  ASSERT_TRUE(engine->drain());
  EXPECT_EQ(kind->read(memory, content.size()), content);
}

TEST_P(CopyEngineContract, CopiesOfADirectionRunInTheOrderTheyWereStarted) {
  FakeTier tier(128 * block);
  tier.delay(3, std::chrono::microseconds(300));
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(2 * block);
  std::vector<std::int64_t> outs, ins;
  Ticket last[2] = {-1, -1};
  for (std::int64_t i = 0; i < 64; ++i) {
    const std::int64_t n = i * 37 % 64;
    const Ticket next[] = {engine->start(copy_of(memory, out, n), 0),
                           engine->start(copy_of(memory + block, in, 127 - n), 0)};
    EXPECT_GT(next[0], last[0]);
    EXPECT_GT(next[1], last[1]);
    last[0] = next[0], last[1] = next[1];
    outs.push_back(n * block);
    ins.push_back((127 - n) * block);
  }
  ASSERT_TRUE(engine->drain());
  EXPECT_EQ(tier.ended(out), outs);
  EXPECT_EQ(tier.ended(in), ins);
}

TEST_P(CopyEngineContract, StartDoesNotWaitForTheCopyNorOneDirectionForTheOther) {
  FakeTier tier(1000 * block);
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(2 * block);
  tier.hold(out);
  for (int i = 0; i < 1000; ++i) engine->start(copy_of(memory, out, i), i);  // returns, or this test hangs
  EXPECT_TRUE(engine->wait(engine->start(copy_of(memory + block, in, 7), 0)));
  EXPECT_TRUE(tier.ended(out).empty());
  tier.release(out);
  EXPECT_TRUE(engine->drain());
  EXPECT_EQ(tier.ended(out).size(), 1000u);
}

TEST_P(CopyEngineContract, WhatComputeDoesAfterAWaitComesAfterTheCopy) {
  FakeTier tier(2 * block);
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(2 * block);
  std::mt19937_64 random(4);
  const std::vector<std::byte> content = random_bytes(random, block);
  kind->write(memory, content);
  const Ticket first = engine->start(copy_of(memory, out, 0), 0);
  ASSERT_TRUE(engine->wait(first));
  tier.hold(in);
  const Ticket second = engine->start(copy_of(memory + block, in, 0), 0);
  EXPECT_TRUE(engine->wait(first)) << "a copy that has ended is not waited for again";
  auto seen = std::async(std::launch::async, [&] {
    EXPECT_TRUE(engine->wait(second));
    return kind->read(memory + block, static_cast<std::size_t>(block));
  });
  EXPECT_EQ(seen.wait_for(soon), std::future_status::timeout);
  tier.release(in);
  EXPECT_EQ(seen.get(), content);
}

TEST_P(CopyEngineContract, DrainReturnsWhenBothDirectionsHaveEnded) {
  FakeTier tier(4 * block);
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(2 * block);
  EXPECT_TRUE(engine->drain()) << "of nothing";
  for (const plan::Direction held : {out, in}) {
    tier.hold(held);
    engine->start(copy_of(memory, out, 0), 0);
    engine->start(copy_of(memory + block, in, 1), 0);
    auto drained = std::async(std::launch::async, [&] { return engine->drain().has_value(); });
    EXPECT_EQ(drained.wait_for(soon), std::future_status::timeout);
    tier.release(held);
    EXPECT_TRUE(drained.get());
  }
  EXPECT_EQ(tier.ended(out).size(), 2u);
  EXPECT_EQ(tier.ended(in).size(), 2u);
}

TEST_P(CopyEngineContract, AFailureStaysWithItsTicketAndStopsNoOther) {
  FakeTier tier(7 * block);
  tier.fail_at(out, 2 * block, "fake tier: the first broken block");
  tier.fail_at(out, 4 * block, "fake tier: the second broken block");
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(2 * block);
  std::vector<Ticket> tickets;
  for (int i = 0; i < 6; ++i) tickets.push_back(engine->start(copy_of(memory, out, i), i));
  const Ticket other = engine->start(copy_of(memory + block, in, 6), 0);
  for (int again = 0; again < 2; ++again) {
    for (const std::size_t i : {5u, 0u, 1u, 3u}) EXPECT_TRUE(engine->wait(tickets[i])) << i;
    const Status failed = engine->wait(tickets[2]);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().message, "fake tier: the first broken block");
    EXPECT_EQ(failed.error().kind, ErrorKind::run_time);
    EXPECT_FALSE(engine->wait(tickets[4]));
  }
  EXPECT_TRUE(engine->wait(other));
  const Status drained = engine->drain();
  ASSERT_FALSE(drained);
  EXPECT_EQ(drained.error().message, "fake tier: the first broken block");
  EXPECT_TRUE(engine->drain()) << "a failure is reported by one drain";
  EXPECT_FALSE(engine->wait(tickets[2]));
  tier.heal();
  EXPECT_TRUE(engine->wait(engine->start(copy_of(memory, out, 2), 0))) << "the engine goes on";
}

TEST_P(CopyEngineContract, SpansTellWhenEachCopyRan) {
  FakeTier tier(25 * block);
  tier.delay(5, std::chrono::microseconds(500));
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(2 * block);
  const double before = engine->now();
  for (int i = 0; i < 20; ++i) engine->start(copy_of(memory, out, i), 100 + i);
  for (int i = 0; i < 5; ++i) engine->start(copy_of(memory + block, in, 20 + i), 200 + i);
  ASSERT_TRUE(engine->drain());
  const double after = engine->now();
  for (const plan::Direction direction : {out, in}) {
    const std::vector<Span> spans = engine->take_spans(direction);
    ASSERT_EQ(spans.size(), direction == out ? 20u : 5u);
    double end = before;
    for (std::size_t i = 0; i < spans.size(); ++i) {
      EXPECT_EQ(spans[i].index, (direction == out ? 100 : 200) + static_cast<int>(i));
      EXPECT_GE(spans[i].start, end) << "copies of a direction do not overlap";
      EXPECT_GE(spans[i].end, spans[i].start);
      end = spans[i].end;
    }
    EXPECT_LE(end, after);
    EXPECT_TRUE(engine->take_spans(direction).empty()) << "spans are taken once";
  }
}

TEST_P(CopyEngineContract, MomentsTellHowFarComputeWas) {
  FakeTier tier(block);
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(block);
  for (int step = 0; step < 2; ++step) {
    const double before = engine->now();
    engine->note_moment();
    const Ticket ticket = engine->start(copy_of(memory, out, 0), 0);
    ASSERT_TRUE(engine->wait(ticket));
    engine->note_moment();
    ASSERT_TRUE(engine->drain());
    const double after = engine->now();
    const std::vector<double> moments = engine->take_moments();
    const std::vector<Span> spans = engine->take_spans(out);
    ASSERT_EQ(moments.size(), 2u);
    ASSERT_EQ(spans.size(), 1u);
    EXPECT_LE(before, moments[0]);
    EXPECT_LE(moments[0], moments[1]);
    EXPECT_LE(moments[1], after);
  }
  EXPECT_TRUE(engine->take_moments().empty()) << "moments are taken once";
}

TEST_P(CopyEngineContract, ADestroyedEngineHasEndedItsCopies) {
  FakeTier tier(32 * block);
  tier.delay(6, std::chrono::microseconds(500));
  std::byte* memory = kind->memory(2 * block);
  auto engine = kind->engine({&tier});
  for (int i = 0; i < 16; ++i) {
    engine->start(copy_of(memory, out, i), 0);
    engine->start(copy_of(memory + block, in, 16 + i), 0);
  }
  engine.reset();
  EXPECT_EQ(tier.ended(out).size(), 16u);
  EXPECT_EQ(tier.ended(in).size(), 16u);
}

TEST_P(CopyEngineContract, EachCopyGoesToTheTierItNames) {
  FakeTier near(4 * block), far(4 * block);
  const auto engine = kind->engine({&near, &far});
  std::byte* memory = kind->memory(block);
  CopyRequest request = copy_of(memory, out, 3);
  request.tier = 1;
  ASSERT_TRUE(engine->wait(engine->start(request, 0)));
  EXPECT_TRUE(near.ended(out).empty());
  EXPECT_EQ(far.ended(out), std::vector<std::int64_t>{3 * block});
}

TEST_P(CopyEngineContract, AnIdleEngineAndAWaitTakeNoProcessorTime) {
  FakeTier tier(block);
  const auto engine = kind->engine({&tier});
  std::byte* memory = kind->memory(block);
  const auto processor_seconds = [] {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  };
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  tier.hold(out);
  const Ticket ticket = engine->start(copy_of(memory, out, 0), 0);
  auto waiting = std::async(std::launch::async, [&] { return engine->wait(ticket).has_value(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(processor_seconds() - before, 0.1);  // a thread that spins takes 0.2 or more
  tier.release(out);
  EXPECT_TRUE(waiting.get());
}

}  // namespace
}  // namespace memo::exec::copy_engine_contract
