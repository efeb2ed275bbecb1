// Checksums on a tier: every flipped bit is found, and so is whatever else changes what was written.
#include "memo/exec/checksums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "random_bytes.h"
#include "tests/exec/fake_tier.h"

namespace memo::exec {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t page_bytes = 4096;

class Checksums : public testing::Test {
 protected:
  std::vector<std::byte> read(std::int64_t offset, std::int64_t bytes) {
    std::vector<std::byte> got(static_cast<std::size_t>(bytes));
    status = tier->read(offset, got.data(), bytes);
    return got;
  }

  std::unique_ptr<FakeTier> made = std::make_unique<FakeTier>(64 * page_bytes);
  FakeTier& store = *made;  // behind the checksums
  std::unique_ptr<TierStore> tier = checksummed(std::move(made), "disk");
  Status status;
};

TEST_F(Checksums, WhatLeftComesBack) {
  const auto first = random_bytes(1, 3 * page_bytes), second = random_bytes(2, 5 * page_bytes);
  ASSERT_TRUE(tier->write(0, first.data(), 3 * page_bytes));
  ASSERT_TRUE(tier->write(3 * page_bytes, second.data(), 5 * page_bytes));
  EXPECT_EQ(read(3 * page_bytes, 5 * page_bytes), second);
  EXPECT_EQ(read(0, 3 * page_bytes), first);
  EXPECT_EQ(read(0, 3 * page_bytes), first) << "as often as it is read";
  EXPECT_TRUE(status);
  ASSERT_TRUE(tier->write(0, second.data(), 3 * page_bytes));
  EXPECT_EQ(read(0, 3 * page_bytes), std::vector(second.begin(), second.begin() + 3 * page_bytes));
  EXPECT_TRUE(status);
}

TEST_F(Checksums, EveryFlippedBitIsFound) {
  const auto content = random_bytes(3, 2 * page_bytes);
  std::mt19937_64 random(4);
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(tier->write(page_bytes, content.data(), 2 * page_bytes));
    auto flipped = content;
    const std::uint64_t bit = i == 0 ? 0 : i == 1 ? 16 * page_bytes - 1 : random() % (16 * page_bytes);
    flipped[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    ASSERT_TRUE(store.write(page_bytes, flipped.data(), 2 * page_bytes));
    read(page_bytes, 2 * page_bytes);
    ASSERT_FALSE(status) << "bit " << bit;
    EXPECT_EQ(status.error().kind, ErrorKind::run_time);
    EXPECT_THAT(status.error().message, AllOf(HasSubstr("are not what was written there")));
  }
}

TEST_F(Checksums, TheContentOfAnotherPlaceIsFound) {
  const auto content = random_bytes(5, 2 * page_bytes);
  ASSERT_TRUE(tier->write(0, content.data(), page_bytes));
  ASSERT_TRUE(store.write(0, content.data() + page_bytes, page_bytes));
  read(0, page_bytes);
  EXPECT_FALSE(status);
}

TEST_F(Checksums, WhatWasWrittenIsReadInAnyPieces) {
  const auto content = random_bytes(6, 4 * page_bytes);
  read(0, page_bytes);
  EXPECT_TRUE(status) << "never written: nothing to verify";
  ASSERT_TRUE(tier->write(0, content.data(), 4 * page_bytes));
  EXPECT_EQ(read(page_bytes, 2 * page_bytes),
            std::vector(content.begin() + page_bytes, content.begin() + 3 * page_bytes));
  EXPECT_TRUE(status);
  ASSERT_TRUE(tier->write(3 * page_bytes, content.data(), 2 * page_bytes));
  read(0, 6 * page_bytes);
  EXPECT_TRUE(status) << "over the border of two writes, and beyond";
  ASSERT_TRUE(store.write(3 * page_bytes, content.data() + page_bytes, page_bytes));
  read(0, 2 * page_bytes);
  EXPECT_TRUE(status) << "what is not read is not verified";
  read(2 * page_bytes, 2 * page_bytes);
  EXPECT_FALSE(status);
}

TEST_F(Checksums, WhatAFailedWriteLeftIsNotRead) {
  const auto content = random_bytes(7, page_bytes);
  ASSERT_TRUE(tier->write(0, content.data(), page_bytes));
  store.fail_at(plan::Direction::out, 0, "fake tier: full");
  EXPECT_FALSE(tier->write(0, content.data(), page_bytes));
  store.heal();
  read(0, page_bytes);
  EXPECT_FALSE(status);
}

}  // namespace
}  // namespace memo::exec
