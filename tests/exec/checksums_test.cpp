// Checksums on a tier: every flipped bit is found, and so is whatever else changes what was written.
#include "memo/exec/checksums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/exec/fake_tier.h"

namespace memo::exec {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t block = 4096;

std::vector<std::byte> random_bytes(std::uint64_t seed, std::int64_t size) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

class Checksums : public testing::Test {
 protected:
  std::vector<std::byte> read(std::int64_t offset, std::int64_t bytes) {
    std::vector<std::byte> got(static_cast<std::size_t>(bytes));
    status = tier->read(offset, got.data(), bytes);
    return got;
  }

  std::unique_ptr<FakeTier> made = std::make_unique<FakeTier>(64 * block);
  FakeTier& store = *made;  // behind the checksums
  std::unique_ptr<TierStore> tier = checksummed(std::move(made), "disk");
  Status status;
};

TEST_F(Checksums, WhatLeftComesBack) {
  const auto first = random_bytes(1, 3 * block), second = random_bytes(2, 5 * block);
  ASSERT_TRUE(tier->write(0, first.data(), 3 * block));
  ASSERT_TRUE(tier->write(3 * block, second.data(), 5 * block));
  EXPECT_EQ(read(3 * block, 5 * block), second);
  EXPECT_EQ(read(0, 3 * block), first);
  EXPECT_EQ(read(0, 3 * block), first) << "as often as it is read";
  EXPECT_TRUE(status);
  ASSERT_TRUE(tier->write(0, second.data(), 3 * block));
  EXPECT_EQ(read(0, 3 * block), std::vector(second.begin(), second.begin() + 3 * block));
  EXPECT_TRUE(status);
}

TEST_F(Checksums, EveryFlippedBitIsFound) {
  const auto content = random_bytes(3, 2 * block);
  std::mt19937_64 random(4);
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(tier->write(block, content.data(), 2 * block));
    auto flipped = content;
    const std::uint64_t bit = i == 0 ? 0 : i == 1 ? 16 * block - 1 : random() % (16 * block);
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    ASSERT_TRUE(store.write(block, flipped.data(), 2 * block));
    read(block, 2 * block);
    ASSERT_FALSE(status) << "bit " << bit;
    EXPECT_EQ(status.error().kind, ErrorKind::run_time);
    EXPECT_THAT(status.error().message, AllOf(HasSubstr("are not what was written there")));
  }
}

TEST_F(Checksums, TheContentOfAnotherPlaceIsFound) {
  const auto content = random_bytes(5, 2 * block);
  ASSERT_TRUE(tier->write(0, content.data(), block));
  ASSERT_TRUE(store.write(0, content.data() + block, block));
  read(0, block);
  EXPECT_FALSE(status);
}

TEST_F(Checksums, WhatWasWrittenIsReadInAnyPieces) {
  const auto content = random_bytes(6, 4 * block);
  read(0, block);
  EXPECT_TRUE(status) << "never written: nothing to verify";
  ASSERT_TRUE(tier->write(0, content.data(), 4 * block));
  EXPECT_EQ(read(block, 2 * block), std::vector(content.begin() + block, content.begin() + 3 * block));
  EXPECT_TRUE(status);
  ASSERT_TRUE(tier->write(3 * block, content.data(), 2 * block));
  read(0, 6 * block);
  EXPECT_TRUE(status) << "over the border of two writes, and beyond";
  ASSERT_TRUE(store.write(3 * block, content.data() + block, block));
  read(0, 2 * block);
  EXPECT_TRUE(status) << "what is not read is not verified";
  read(2 * block, 2 * block);
  EXPECT_FALSE(status);
}

TEST_F(Checksums, WhatAFailedWriteLeftIsNotRead) {
  const auto content = random_bytes(7, block);
  ASSERT_TRUE(tier->write(0, content.data(), block));
  store.fail_at(plan::Direction::out, 0, "fake tier: full");
  EXPECT_FALSE(tier->write(0, content.data(), block));
  store.heal();
  read(0, block);
  EXPECT_FALSE(status);
}

}  // namespace
}  // namespace memo::exec
