// What every tier promises (memo/exec/tier.h), as tests, against a plain array of bytes: each runs for every kind of
// tier that instantiates them.
#include "tests/exec/tier_contract.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace memo::exec::tier_contract {
namespace {

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

std::unique_ptr<TierStore> open(TierKind& kind, std::int64_t bytes) {
  auto made = kind.open(Bytes(bytes));
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return made ? *std::move(made) : nullptr;
}
void write(TierStore& tier, std::int64_t offset, const TierBuffer& from) {
  const Status status = tier.write(offset, from.data(), from.size());
  EXPECT_TRUE(status) << (status ? "" : status.error().message);
}
std::vector<std::byte> read(TierStore& tier, std::int64_t offset, std::int64_t bytes) {
  const TierBuffer to(bytes);
  const Status status = tier.read(offset, to.data(), bytes);
  EXPECT_TRUE(status) << (status ? "" : status.error().message);
  return to.bytes();
}
bool are(const std::vector<std::byte>& got, const std::byte* wanted) {
  return std::memcmp(got.data(), wanted, got.size()) == 0;  // std::byte has no fast comparison
}
void expect_one_line(const Status& status) {
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::run_time);
  EXPECT_FALSE(status.error().message.empty());
  EXPECT_THAT(status.error().message, testing::Not(testing::HasSubstr("\n")));
}

TEST_P(TierContract, WhatIsWrittenIsReadAtEverySizeUpToTheWholeTier) {
  constexpr std::int64_t most = 40;
  for (std::int64_t units = 0; units <= most; ++units) {
    const auto tier = open(*kind, most * unit);
    const TierBuffer content = TierBuffer::random(1 + static_cast<std::uint64_t>(units), units * unit);
    const std::int64_t offset = (most - units) * unit;  // up to the last byte
    write(*tier, offset, content);
    ASSERT_EQ(read(*tier, offset, content.size()), content.bytes()) << units;
  }
}

// More than what tiers do at once: pieces of a request, buffers of a cipher.
TEST_P(TierContract, LargeOperationsAreWholeTooWhateverPiecesTheyAreReadIn) {
  const std::int64_t bytes = (std::int64_t{9} << 20) + 3 * unit;
  const auto tier = open(*kind, bytes + 5 * unit);
  const TierBuffer content = TierBuffer::random(2, bytes);
  write(*tier, 5 * unit, content);
  for (const std::int64_t begin : {std::int64_t{0}, unit, bytes / 2 / unit * unit}) {
    const std::int64_t size = bytes - begin - (begin == unit ? unit : 0);
    const std::vector<std::byte> got = read(*tier, 5 * unit + begin, size);
    EXPECT_TRUE(are(got, content.data() + begin)) << begin;
  }
}

// Whatever was done before and elsewhere: overwritten in part, read in part, never written beside it.
TEST_P(TierContract, ATierIsAnArrayOfBytes) {
  constexpr std::int64_t units = 64;
  const auto tier = open(*kind, units * unit);
  std::vector<std::byte> wanted(static_cast<std::size_t>(units * unit));
  std::vector<bool> written(units, false);
  std::mt19937_64 random(3);
  for (std::uint64_t i = 0; i < 400; ++i) {
    const auto begin = static_cast<std::int64_t>(random() % units);
    const auto count = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(std::min<std::int64_t>(
                                                                    units - begin, i % 3 == 0 ? units : 5)));
    const std::int64_t offset = begin * unit, size = count * unit;
    if (random() % 2 == 0 && i > 0) {
      const std::vector<std::byte> got = read(*tier, offset, size);
      for (std::int64_t u = 0; u < count; ++u) {  // what was never written may be anything
        const auto same = [&](std::int64_t at) {
          return got[static_cast<std::size_t>(at)] == wanted[static_cast<std::size_t>(offset + at)];
        };
        for (std::int64_t at = u * unit; written[static_cast<std::size_t>(begin + u)] && at < (u + 1) * unit; ++at)
          ASSERT_TRUE(same(at)) << "operation " << i << ", byte " << offset + at;
      }
    } else {
      const TierBuffer content = TierBuffer::random(100 + i, size);
      write(*tier, offset, content);
      std::copy(content.data(), content.data() + size, wanted.begin() + offset);
      std::fill(written.begin() + begin, written.begin() + begin + count, true);
    }
  }
}

TEST_P(TierContract, WhatWasNeverWrittenIsReadWithoutAnErrorAndLeavesTheRestAsItIs) {
  const auto tier = open(*kind, 8 * unit);
  read(*tier, 0, 8 * unit);
  const TierBuffer content = TierBuffer::random(4, 2 * unit);
  write(*tier, 3 * unit, content);
  read(*tier, 0, 3 * unit);
  const std::vector<std::byte> all = read(*tier, 0, 8 * unit);
  EXPECT_TRUE(std::equal(content.data(), content.data() + content.size(), all.begin() + 3 * unit));
}

TEST_P(TierContract, AWriteLeavesTheCallersBytesAsTheyAre) {
  const auto tier = open(*kind, 16 * unit);
  const TierBuffer content = TierBuffer::random(5, 16 * unit);
  const std::vector<std::byte> before = content.bytes();
  write(*tier, 0, content);
  EXPECT_EQ(content.bytes(), before);
}

TEST_P(TierContract, OperationsInFlightTogetherDoNotMix) {
  constexpr int threads = 4;
  constexpr std::int64_t part = 24;
  const auto tier = open(*kind, 2 * threads * part * unit);
  const auto offset = [&](int place) { return place * part * unit; };
  for (int t = 0; t < threads; ++t)
    write(*tier, offset(threads + t), TierBuffer::random(10 + static_cast<std::uint64_t>(t), part * unit));
  std::vector<std::thread> working;
  for (int t = 0; t < threads; ++t)
    working.emplace_back([&, t] {
      const TierBuffer old = TierBuffer::random(10 + static_cast<std::uint64_t>(t), part * unit);
      for (std::uint64_t round = 0; round < 10; ++round) {
        const TierBuffer fresh = TierBuffer::random(100 + 10 * round + static_cast<std::uint64_t>(t), part * unit);
        write(*tier, offset(t), fresh);
        EXPECT_TRUE(are(read(*tier, offset(threads + t), part * unit), old.data()));
        EXPECT_TRUE(are(read(*tier, offset(t), part * unit), fresh.data()));
      }
    });
  for (std::thread& thread : working) thread.join();
}

TEST_P(TierContract, PinnedBytesAreTheTiersOwn) {
  const auto tier = open(*kind, 8 * unit);
  std::byte* pinned = tier->pinned(3 * unit, 2 * unit);
  if (pinned == nullptr) return;  // everything passes through write and read
  const TierBuffer content = TierBuffer::random(6, 2 * unit);
  write(*tier, 3 * unit, content);
  EXPECT_TRUE(std::equal(content.data(), content.data() + content.size(), pinned));
  pinned[unit] ^= std::byte{1};
  EXPECT_EQ(read(*tier, 4 * unit, 1)[0], pinned[unit]);
}

TEST_P(TierContract, MoreThanThereIsIsRefusedInOneLine) {
  const auto tier = kind->open(Bytes(std::int64_t{1} << 60));
  ASSERT_FALSE(tier);
  EXPECT_FALSE(tier.error().message.empty());
  EXPECT_THAT(tier.error().message, testing::Not(testing::HasSubstr("\n")));
}

TEST_P(TierContract, ACopyPastTheEndBreaksAnInvariant) {
  const auto tier = open(*kind, 4 * unit);
  const TierBuffer bytes(4 * unit);
  EXPECT_DEATH((void)tier->write(unit, bytes.data(), 4 * unit), "a copy lies inside its tier");
  EXPECT_DEATH((void)tier->read(4 * unit, bytes.data(), unit), "a copy lies inside its tier");
}

TEST_P(FailingTierContract, AWriteThatFailsIsOneLineAndTheNextOneWorks) {
  const auto tier = open(*kind, 8 * unit);
  const TierBuffer kept = TierBuffer::random(1, 3 * unit), content = TierBuffer::random(2, 2 * unit);
  write(*tier, 0, kept);
  kind->fail_writes();
  for (int again = 0; again < 2; ++again) expect_one_line(tier->write(4 * unit, content.data(), content.size()));
  EXPECT_EQ(read(*tier, 0, kept.size()), kept.bytes()) << "reads go on";
  kind->heal();
  write(*tier, 4 * unit, content);
  EXPECT_EQ(read(*tier, 4 * unit, content.size()), content.bytes());
  EXPECT_EQ(read(*tier, 0, kept.size()), kept.bytes());
}

TEST_P(FailingTierContract, AReadThatFailsIsOneLineAndLosesNothing) {
  const auto tier = open(*kind, 8 * unit);
  const TierBuffer content = TierBuffer::random(3, 8 * unit), other = TierBuffer::random(4, unit);
  write(*tier, 0, content);
  kind->fail_reads();
  const TierBuffer to(8 * unit);
  for (int again = 0; again < 2; ++again) expect_one_line(tier->read(0, to.data(), to.size()));
  kind->heal();
  EXPECT_EQ(read(*tier, 0, content.size()), content.bytes());
  write(*tier, 7 * unit, other);
  EXPECT_EQ(read(*tier, 7 * unit, other.size()), other.bytes());
}

}  // namespace
}  // namespace memo::exec::tier_contract
