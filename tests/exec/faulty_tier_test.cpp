// That faults are what they are called, and are the same for a seed.
#include "memo/exec/faulty_tier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <thread>

namespace memo::exec {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr std::int64_t request_bytes = 4096;
constexpr std::byte old{1}, fresh{2};

FaultyTier always(Fault fault) { return {*host_tier(Bytes(4 * request_bytes)), {.rate = 1, .kinds = {fault}}}; }

// What lies in the tier after a write of four blocks that meets `fault`, as the store behind it has it.
struct Written {
  Status status;
  int fresh_blocks = 0;
};
Written write_meeting(Fault fault) {
  auto made = *host_tier(Bytes(4 * request_bytes));
  TierStore& store = *made;
  const std::vector<std::byte> before(4 * request_bytes, old), after(4 * request_bytes, fresh);
  EXPECT_TRUE(store.write(0, before.data(), 4 * request_bytes));
  FaultyTier tier(std::move(made), {.rate = 1, .kinds = {fault}});
  Written result{tier.write(0, after.data(), 4 * request_bytes)};
  std::vector<std::byte> got(4 * request_bytes);
  EXPECT_TRUE(store.read(0, got.data(), 4 * request_bytes));
  for (std::size_t b = 0; b < 4; ++b) result.fresh_blocks += got[b * request_bytes] == fresh ? 1 : 0;
  return result;
}

TEST(FaultyTier, WritesFailHalfWay) {
  const Written full = write_meeting(Fault::disk_full), error = write_meeting(Fault::io_error);
  ASSERT_FALSE(full.status);
  EXPECT_EQ(full.status.error().message, "disk tier: cannot write at offset 8192: No space left on device");
  EXPECT_EQ(full.fresh_blocks, 2);
  ASSERT_FALSE(error.status);
  EXPECT_THAT(error.status.error().message, HasSubstr("Input/output error"));
}

TEST(FaultyTier, WritesLie) {
  const Written torn = write_meeting(Fault::torn_write), lost = write_meeting(Fault::lost_write);
  EXPECT_TRUE(torn.status);
  EXPECT_EQ(torn.fresh_blocks, 2);
  EXPECT_TRUE(lost.status);
  EXPECT_EQ(lost.fresh_blocks, 0);
}

TEST(FaultyTier, ReadsFailOrLie) {
  std::vector<std::byte> got(4 * request_bytes, old);
  EXPECT_FALSE(always(Fault::io_error).read(0, got.data(), 4 * request_bytes));
  std::fill(got.begin(), got.end(), old);
  EXPECT_TRUE(always(Fault::short_read).read(0, got.data(), 4 * request_bytes));
  EXPECT_EQ(got[2 * request_bytes - 1], std::byte{0});
  EXPECT_EQ(got[2 * request_bytes], old);
  EXPECT_TRUE(always(Fault::flipped_bit).read(0, got.data(), 4 * request_bytes));
  int bits = 0;
  for (const std::byte byte : got) bits += std::popcount(static_cast<unsigned>(byte));
  EXPECT_EQ(bits, 1);
}

TEST(FaultyTier, AFaultThatADirectionCannotHaveDoesNotHappen) {
  std::vector<std::byte> bytes(4 * request_bytes);
  FaultyTier of_reads = always(Fault::flipped_bit), of_writes = always(Fault::disk_full);
  EXPECT_TRUE(of_reads.write(0, bytes.data(), request_bytes));
  EXPECT_TRUE(of_writes.read(0, bytes.data(), request_bytes));
  EXPECT_TRUE(of_reads.injected().empty());
  EXPECT_TRUE(of_writes.injected().empty());
}

TEST(FaultyTier, AStallEndsWhenItIsTold) {
  std::vector<std::byte> bytes(4 * request_bytes);
  FaultyTier tier = always(Fault::stall);
  std::thread stalled([&] { EXPECT_TRUE(tier.write(0, bytes.data(), request_bytes)); });
  while (tier.injected().empty()) std::this_thread::yield();
  tier.end_stalls();
  stalled.join();  // or this test hangs
  EXPECT_TRUE(tier.read(0, bytes.data(), request_bytes));
}

TEST(FaultyTier, IsDescribedInALine) {
  const auto some = parse_faults("7:0.5:flipped bit");
  ASSERT_TRUE(some);
  EXPECT_EQ(some->seed, 7u);
  EXPECT_EQ(some->rate, 0.5);
  EXPECT_EQ(some->kinds, std::vector{Fault::flipped_bit});
  const auto all = parse_faults("3");
  ASSERT_TRUE(all);
  EXPECT_EQ(all->kinds.size(), std::size(all_faults));
  for (const char* wrong : {"", "x", "1:", "1:x", "1:0.5:", "1:0.5:mould", "1 2", "1:0.5 2"})
    EXPECT_FALSE(parse_faults(wrong)) << wrong;
}

TEST(FaultyTier, ASeedHasItsFaults) {
  std::vector<std::byte> bytes(request_bytes);
  const auto faults_of = [&](std::uint64_t seed) {
    FaultyTier tier(*host_tier(Bytes(4 * request_bytes)), {.seed = seed, .rate = 0.3, .stall = Seconds(0)});
    for (int i = 0; i < 200; ++i) {
      (void)tier.write(0, bytes.data(), request_bytes);
      (void)tier.read(0, bytes.data(), request_bytes);
    }
    return tier.injected();
  };
  EXPECT_EQ(faults_of(1), faults_of(1));
  EXPECT_NE(faults_of(1), faults_of(2));
  EXPECT_NEAR(static_cast<double>(faults_of(3).size()), 0.3 * 400, 60);
  for (const Fault fault : all_faults) EXPECT_THAT(faults_of(4), testing::Contains(fault)) << name_of(fault);
}

}  // namespace
}  // namespace memo::exec
