// What every tier promises (memo/exec/tier.h), as tests, against a plain array of bytes. A tier instantiates the suite
// with
//
//   struct Kind {
//     static constexpr std::int64_t alignment;              // of offsets, sizes and addresses
//     std::string refusal;                                  // there from the start: every test is skipped
//     Result<std::unique_ptr<TierStore>> open(Bytes bytes);
//   };
//
// and, where operations of it can fail, FailingTierContract, with these besides:
//
//     void fail_writes();  // operations of the tier that was opened last, until `heal`
//     void fail_reads();
//     void heal();
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "memo/exec/tier.h"

namespace memo::exec {

// Memory at a page's start, which any tier takes.
class TierBuffer {
 public:
  explicit TierBuffer(std::int64_t bytes)
      : size_(static_cast<std::size_t>(bytes)),
        memory_(static_cast<std::byte*>(std::aligned_alloc(4096, (size_ / 4096 + 1) * 4096)), std::free) {
    std::memset(memory_.get(), 0x5A, size_);
  }
  static TierBuffer random(std::uint64_t seed, std::int64_t bytes) {
    TierBuffer made(bytes);
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < made.size_; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(made.data() + i, &word, std::min(sizeof word, made.size_ - i));
    }
    return made;
  }
  [[nodiscard]] std::byte* data() const { return memory_.get(); }
  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(size_); }
  [[nodiscard]] std::vector<std::byte> bytes() const { return {data(), data() + size_}; }

 private:
  std::size_t size_;
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
};

template <class Kind>
class TierContract : public testing::Test {
 protected:
  static constexpr std::int64_t unit = Kind::alignment;
  void SetUp() override {
    if (!kind.refusal.empty()) GTEST_SKIP() << kind.refusal;
  }

  std::unique_ptr<TierStore> open(std::int64_t bytes) {
    auto made = kind.open(Bytes(bytes));
    EXPECT_TRUE(made) << (made ? "" : made.error().message);
    return made ? *std::move(made) : nullptr;
  }
  static void write(TierStore& tier, std::int64_t offset, const TierBuffer& from) {
    const Status status = tier.write(offset, from.data(), from.size());
    EXPECT_TRUE(status) << (status ? "" : status.error().message);
  }
  static std::vector<std::byte> read(TierStore& tier, std::int64_t offset, std::int64_t bytes) {
    const TierBuffer to(bytes);
    const Status status = tier.read(offset, to.data(), bytes);
    EXPECT_TRUE(status) << (status ? "" : status.error().message);
    return to.bytes();
  }
  static bool are(const std::vector<std::byte>& got, const std::byte* wanted) {
    return std::memcmp(got.data(), wanted, got.size()) == 0;  // std::byte has no fast comparison
  }
  static void expect_one_line(const Status& status) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::run_time);
    EXPECT_FALSE(status.error().message.empty());
    EXPECT_THAT(status.error().message, testing::Not(testing::HasSubstr("\n")));
  }

  Kind kind;
};

template <class Kind>
using FailingTierContract = TierContract<Kind>;

TYPED_TEST_SUITE_P(TierContract);

TYPED_TEST_P(TierContract, WhatIsWrittenIsReadAtEverySizeUpToTheWholeTier) {
  constexpr std::int64_t most = 40;
  for (std::int64_t units = 0; units <= most; ++units) {
    const auto tier = this->open(most * this->unit);
    const TierBuffer content = TierBuffer::random(1 + static_cast<std::uint64_t>(units), units * this->unit);
    const std::int64_t offset = (most - units) * this->unit;  // up to the last byte
    this->write(*tier, offset, content);
    ASSERT_EQ(this->read(*tier, offset, content.size()), content.bytes()) << units;
  }
}

// More than what tiers do at once: pieces of a request, buffers of a cipher.
TYPED_TEST_P(TierContract, LargeOperationsAreWholeTooWhateverPiecesTheyAreReadIn) {
  const std::int64_t bytes = (std::int64_t{9} << 20) + 3 * this->unit;
  const auto tier = this->open(bytes + 5 * this->unit);
  const TierBuffer content = TierBuffer::random(2, bytes);
  this->write(*tier, 5 * this->unit, content);
  for (const std::int64_t begin : {std::int64_t{0}, this->unit, bytes / 2 / this->unit * this->unit}) {
    const std::int64_t size = bytes - begin - (begin == this->unit ? this->unit : 0);
    const std::vector<std::byte> got = this->read(*tier, 5 * this->unit + begin, size);
    EXPECT_TRUE(this->are(got, content.data() + begin)) << begin;
  }
}

// Whatever was done before and elsewhere: overwritten in part, read in part, never written beside it.
TYPED_TEST_P(TierContract, ATierIsAnArrayOfBytes) {
  constexpr std::int64_t units = 64;
  const auto tier = this->open(units * this->unit);
  std::vector<std::byte> wanted(static_cast<std::size_t>(units * this->unit));
  std::vector<bool> written(units, false);
  std::mt19937_64 random(3);
  for (std::uint64_t i = 0; i < 400; ++i) {
    const auto begin = static_cast<std::int64_t>(random() % units);
    const auto count = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(std::min<std::int64_t>(
                                                                    units - begin, i % 3 == 0 ? units : 5)));
    const std::int64_t offset = begin * this->unit, size = count * this->unit;
    if (random() % 2 == 0 && i > 0) {
      const std::vector<std::byte> got = this->read(*tier, offset, size);
      for (std::int64_t u = 0; u < count; ++u) {  // what was never written may be anything
        const auto same = [&](std::int64_t at) {
          return got[static_cast<std::size_t>(at)] == wanted[static_cast<std::size_t>(offset + at)];
        };
        for (std::int64_t at = u * this->unit;
             written[static_cast<std::size_t>(begin + u)] && at < (u + 1) * this->unit; ++at)
          ASSERT_TRUE(same(at)) << "operation " << i << ", byte " << offset + at;
      }
    } else {
      const TierBuffer content = TierBuffer::random(100 + i, size);
      this->write(*tier, offset, content);
      std::copy(content.data(), content.data() + size, wanted.begin() + offset);
      std::fill(written.begin() + begin, written.begin() + begin + count, true);
    }
  }
}

TYPED_TEST_P(TierContract, WhatWasNeverWrittenIsReadWithoutAnErrorAndLeavesTheRestAsItIs) {
  const auto tier = this->open(8 * this->unit);
  this->read(*tier, 0, 8 * this->unit);
  const TierBuffer content = TierBuffer::random(4, 2 * this->unit);
  this->write(*tier, 3 * this->unit, content);
  this->read(*tier, 0, 3 * this->unit);
  const std::vector<std::byte> all = this->read(*tier, 0, 8 * this->unit);
  EXPECT_TRUE(std::equal(content.data(), content.data() + content.size(), all.begin() + 3 * this->unit));
}

TYPED_TEST_P(TierContract, AWriteLeavesTheCallersBytesAsTheyAre) {
  const auto tier = this->open(16 * this->unit);
  const TierBuffer content = TierBuffer::random(5, 16 * this->unit);
  const std::vector<std::byte> before = content.bytes();
  this->write(*tier, 0, content);
  EXPECT_EQ(content.bytes(), before);
}

TYPED_TEST_P(TierContract, OperationsInFlightTogetherDoNotMix) {
  constexpr int threads = 4;
  constexpr std::int64_t part = 24;
  const auto tier = this->open(2 * threads * part * this->unit);
  const auto offset = [&](int place) { return place * part * this->unit; };
  for (int t = 0; t < threads; ++t)
    this->write(*tier, offset(threads + t), TierBuffer::random(10 + static_cast<std::uint64_t>(t), part * this->unit));
  std::vector<std::thread> working;
  for (int t = 0; t < threads; ++t)
    working.emplace_back([&, t] {
      const TierBuffer old = TierBuffer::random(10 + static_cast<std::uint64_t>(t), part * this->unit);
      for (std::uint64_t round = 0; round < 10; ++round) {
        const TierBuffer fresh =
            TierBuffer::random(100 + 10 * round + static_cast<std::uint64_t>(t), part * this->unit);
        this->write(*tier, offset(t), fresh);
        EXPECT_TRUE(this->are(this->read(*tier, offset(threads + t), part * this->unit), old.data()));
        EXPECT_TRUE(this->are(this->read(*tier, offset(t), part * this->unit), fresh.data()));
      }
    });
  for (std::thread& thread : working) thread.join();
}

TYPED_TEST_P(TierContract, PinnedBytesAreTheTiersOwn) {
  const auto tier = this->open(8 * this->unit);
  std::byte* pinned = tier->pinned(3 * this->unit, 2 * this->unit);
  if (pinned == nullptr) return;  // everything passes through write and read
  const TierBuffer content = TierBuffer::random(6, 2 * this->unit);
  this->write(*tier, 3 * this->unit, content);
  EXPECT_TRUE(std::equal(content.data(), content.data() + content.size(), pinned));
  pinned[this->unit] ^= std::byte{1};
  EXPECT_EQ(this->read(*tier, 4 * this->unit, 1)[0], pinned[this->unit]);
}

TYPED_TEST_P(TierContract, MoreThanThereIsIsRefusedInOneLine) {
  const auto tier = this->kind.open(Bytes(std::int64_t{1} << 60));
  ASSERT_FALSE(tier);
  EXPECT_FALSE(tier.error().message.empty());
  EXPECT_THAT(tier.error().message, testing::Not(testing::HasSubstr("\n")));
}

TYPED_TEST_P(TierContract, ACopyPastTheEndBreaksAnInvariant) {
  const auto tier = this->open(4 * this->unit);
  const TierBuffer bytes(4 * this->unit);
  EXPECT_DEATH((void)tier->write(this->unit, bytes.data(), 4 * this->unit), "a copy lies inside its tier");
  EXPECT_DEATH((void)tier->read(4 * this->unit, bytes.data(), this->unit), "a copy lies inside its tier");
}

REGISTER_TYPED_TEST_SUITE_P(TierContract, WhatIsWrittenIsReadAtEverySizeUpToTheWholeTier,
                            LargeOperationsAreWholeTooWhateverPiecesTheyAreReadIn, ATierIsAnArrayOfBytes,
                            WhatWasNeverWrittenIsReadWithoutAnErrorAndLeavesTheRestAsItIs,
                            AWriteLeavesTheCallersBytesAsTheyAre, OperationsInFlightTogetherDoNotMix,
                            PinnedBytesAreTheTiersOwn, MoreThanThereIsIsRefusedInOneLine,
                            ACopyPastTheEndBreaksAnInvariant);

TYPED_TEST_SUITE_P(FailingTierContract);

TYPED_TEST_P(FailingTierContract, AWriteThatFailsIsOneLineAndTheNextOneWorks) {
  const auto tier = this->open(8 * this->unit);
  const TierBuffer kept = TierBuffer::random(1, 3 * this->unit), content = TierBuffer::random(2, 2 * this->unit);
  this->write(*tier, 0, kept);
  this->kind.fail_writes();
  for (int again = 0; again < 2; ++again)
    this->expect_one_line(tier->write(4 * this->unit, content.data(), content.size()));
  EXPECT_EQ(this->read(*tier, 0, kept.size()), kept.bytes()) << "reads go on";
  this->kind.heal();
  this->write(*tier, 4 * this->unit, content);
  EXPECT_EQ(this->read(*tier, 4 * this->unit, content.size()), content.bytes());
  EXPECT_EQ(this->read(*tier, 0, kept.size()), kept.bytes());
}

TYPED_TEST_P(FailingTierContract, AReadThatFailsIsOneLineAndLosesNothing) {
  const auto tier = this->open(8 * this->unit);
  const TierBuffer content = TierBuffer::random(3, 8 * this->unit), other = TierBuffer::random(4, this->unit);
  this->write(*tier, 0, content);
  this->kind.fail_reads();
  const TierBuffer to(8 * this->unit);
  for (int again = 0; again < 2; ++again) this->expect_one_line(tier->read(0, to.data(), to.size()));
  this->kind.heal();
  EXPECT_EQ(this->read(*tier, 0, content.size()), content.bytes());
  this->write(*tier, 7 * this->unit, other);
  EXPECT_EQ(this->read(*tier, 7 * this->unit, other.size()), other.bytes());
}

REGISTER_TYPED_TEST_SUITE_P(FailingTierContract, AWriteThatFailsIsOneLineAndTheNextOneWorks,
                            AReadThatFailsIsOneLineAndLosesNothing);

}  // namespace memo::exec
