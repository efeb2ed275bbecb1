// Encryption of a tier: what leaves comes back, and nothing of it is on the disk.
#include "memo/exec/encryption.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "memo/exec/checksums.h"
#include "tests/exec/disk_folder.h"
#include "tests/exec/fake_tier.h"

namespace memo::exec {
namespace {

using testing::HasSubstr;

constexpr std::int64_t sector = 4096;
constexpr const char* secret = "In the beginning God created the heaven and the earth.";

struct alignas(4096) Page {
  std::byte bytes[sector];
};
using Pages = std::vector<Page>;
std::byte* data(Pages& pages) { return pages.front().bytes; }

// Some text, over and over, and at no boundary of the cipher's.
Pages planted(std::size_t count) {
  Pages pages(count);
  const std::size_t length = std::strlen(secret);
  for (std::size_t at = 5; at + length < count * sector; at += length + 3)
    std::memcpy(data(pages) + at, secret, length);
  return pages;
}

bool holds_secret(const std::string& bytes) { return bytes.find(secret) != std::string::npos; }

TEST(Encryption, WhatLeftComesBackInAnyPieces) {
  auto tier = encrypted(std::make_unique<FakeTier>(5000 * sector));
  ASSERT_TRUE(tier) << tier.error().message;
  std::mt19937_64 random(1);
  Pages out(4100);  // more than the buffer of a write
  for (Page& page : out)
    for (std::size_t i = 0; i < sector; i += 8) {
      const std::uint64_t value = random();
      std::memcpy(page.bytes + i, &value, 8);
    }
  const auto bytes = static_cast<std::int64_t>(out.size()) * sector;
  ASSERT_TRUE((*tier)->write(7 * sector, data(out), bytes));
  Pages in(out.size());
  ASSERT_TRUE((*tier)->read(7 * sector, data(in), bytes));
  EXPECT_EQ(std::memcmp(data(in), data(out), static_cast<std::size_t>(bytes)), 0);
  ASSERT_TRUE((*tier)->read(1000 * sector, data(in), 3 * sector));
  EXPECT_EQ(std::memcmp(data(in), out[993].bytes, 3 * sector), 0);
}

TEST(Encryption, TheDiskHoldsNothingOfWhatWasWritten) {
  for (const bool encrypts : {false, true}) {
    auto made = std::make_unique<FakeTier>(64 * sector);
    FakeTier& store = *made;
    std::unique_ptr<TierStore> tier = std::move(made);
    if (encrypts) tier = *encrypted(std::move(tier));
    Pages out = planted(16);
    ASSERT_TRUE(tier->write(3 * sector, data(out), 16 * sector));
    std::string raw(64 * sector, '\0');
    ASSERT_TRUE(store.read(0, reinterpret_cast<std::byte*>(raw.data()), 64 * sector));
    EXPECT_EQ(holds_secret(raw), !encrypts);
    if (!encrypts) continue;
    // Equal sectors differ by their offsets, and equal bytes within one.
    Pages same(3);
    ASSERT_TRUE(tier->write(20 * sector, data(same), 3 * sector));
    ASSERT_TRUE(store.read(0, reinterpret_cast<std::byte*>(raw.data()), 64 * sector));
    const std::string_view sectors(raw);
    EXPECT_NE(sectors.substr(20 * sector, sector), sectors.substr(21 * sector, sector));
    EXPECT_NE(sectors.substr(20 * sector, 16), sectors.substr(20 * sector + 16, 16));
  }
}

TEST(Encryption, TwoTiersHaveTwoKeys) {
  std::string raw[2];
  for (std::string& bytes : raw) {
    auto made = std::make_unique<FakeTier>(sector);
    FakeTier& store = *made;
    const auto tier = *encrypted(std::move(made));
    Pages out = planted(1);
    ASSERT_TRUE(tier->write(0, data(out), sector));
    bytes.resize(sector);
    ASSERT_TRUE(store.read(0, reinterpret_cast<std::byte*>(bytes.data()), sector));
  }
  EXPECT_NE(raw[0], raw[1]);
}

// KiB of this process's memory with a flag of /proc/self/smaps: "lo" is locked, "dd" in no core dump.
std::int64_t kib_with(const std::string& flag) {
  std::ifstream maps("/proc/self/smaps");
  std::int64_t kib = 0, size = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.starts_with("Size:")) size = std::stoll(line.substr(5));
    if (line.starts_with("VmFlags:") && line.find(" " + flag) != std::string::npos) kib += size;
  }
  return kib;
}

TEST(Encryption, TheKeysPageIsLockedAndInNoCoreDump) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer changes the flags of memory of its own";
#endif
  alignas(sector) static std::byte page[sector];
  // The system may not allow it, and under the address sanitizer the call does nothing.
  const std::int64_t locked = kib_with("lo"), left_out = kib_with("dd");
  const bool may_lock = ::mlock(page, sector) == 0 && kib_with("lo") > locked;
  ::munlock(page, sector);
  {
    const auto tier = *encrypted(std::make_unique<FakeTier>(sector));
    EXPECT_EQ(kib_with("dd"), left_out + 4);
    EXPECT_EQ(kib_with("lo"), locked + (may_lock ? 4 : 0));
  }
  EXPECT_EQ(kib_with("dd"), left_out);
}

TEST(Encryption, AFlippedBitOfTheDiskIsFoundByChecksumsAroundIt) {
  auto made = std::make_unique<FakeTier>(4 * sector);
  FakeTier& store = *made;
  const auto tier = checksummed(*encrypted(std::move(made)), "disk");
  Pages out = planted(4);
  ASSERT_TRUE(tier->write(0, data(out), 4 * sector));
  Pages raw(4), in(4);
  ASSERT_TRUE(store.read(0, data(raw), 4 * sector));
  raw[2].bytes[100] ^= std::byte{4};
  ASSERT_TRUE(store.write(0, data(raw), 4 * sector));
  const Status status = tier->read(0, data(in), 4 * sector);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("are not what was written there"));
}

TEST(Encryption, FailuresOfTheDiskPass) {
  auto made = std::make_unique<FakeTier>(4 * sector);
  made->fail_at(plan::Direction::out, 0, "no room");
  made->fail_at(plan::Direction::in, sector, "no disk");
  const auto tier = *encrypted(std::move(made));
  Pages page = planted(1);
  EXPECT_EQ(tier->write(0, data(page), sector).error().message, "no room");
  EXPECT_EQ(tier->read(sector, data(page), sector).error().message, "no disk");
}

// The raw file of a tier, found through the process's open files, since it has no name.
std::string raw_file(const Path& folder) {
  for (int fd = 0; fd < 1024; ++fd) {
    std::error_code none;
    const Path link = "/proc/self/fd/" + std::to_string(fd);
    if (!std::filesystem::read_symlink(link, none).string().starts_with(folder.string() + "/") || none) continue;
    return *read_text(link);
  }
  return {};
}

TEST(Encryption, ARealFileHoldsThePlainBytesOnlyWithoutIt) {
  const DiskFolder folder;
  MEMO_SKIP_WITHOUT(folder);
  for (const bool encrypts : {false, true}) {
    std::unique_ptr<TierStore> tier = *disk_tier(folder.path(), Bytes(256 * sector));
    if (encrypts) tier = *encrypted(std::move(tier));
    Pages out = planted(64);
    ASSERT_TRUE(tier->write(16 * sector, data(out), 64 * sector));
    const std::string raw = raw_file(folder.path());
    ASSERT_EQ(raw.size(), 256U * sector);
    EXPECT_EQ(holds_secret(raw), !encrypts);
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  }
}

}  // namespace
}  // namespace memo::exec
