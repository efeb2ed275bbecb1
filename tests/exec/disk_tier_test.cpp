// A file as a tier: what it is on disk, and the folders and faults it refuses. The file has no name, so tests look at
// it through the process's open files.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "memo/exec/tier.h"
#include "tests/base/file_size_limit.h"
#include "tests/exec/disk_folder.h"

namespace memo::exec {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t MiB = 1 << 20;

// The descriptor of the only open file that lies in `folder`; -1 when there is none.
int open_file_in(const Path& folder) {
  for (int fd = 0; fd < 1024; ++fd) {
    std::error_code none;
    const Path target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), none);
    if (!none && target.string().starts_with(folder.string() + "/")) return fd;
  }
  return -1;
}

using Buffer = std::unique_ptr<std::byte, decltype(&std::free)>;
Buffer buffer(std::int64_t bytes) {
  Buffer made(static_cast<std::byte*>(std::aligned_alloc(4096, static_cast<std::size_t>(bytes))), std::free);
  std::memset(made.get(), 7, static_cast<std::size_t>(bytes));
  return made;
}

class DiskTierTest : public testing::Test {
 protected:
  void SetUp() override { MEMO_SKIP_WITHOUT(folder); }
  DiskFolder folder;
};

TEST_F(DiskTierTest, IsAPrivateNamelessFileReservedInFullWithDirectIo) {
  const auto tier = disk_tier(folder.path(), Bytes(5 * MiB));
  ASSERT_TRUE(tier) << tier.error().message;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  const int fd = open_file_in(folder.path());
  ASSERT_GE(fd, 0);
  struct stat file {};
  ASSERT_EQ(::fstat(fd, &file), 0);
  EXPECT_EQ(file.st_mode, static_cast<mode_t>(S_IFREG | 0600));
  EXPECT_EQ(file.st_nlink, 0u);
  EXPECT_EQ(file.st_size, 5 * MiB);
  EXPECT_GE(file.st_blocks * 512, 5 * MiB) << "a hole is not reserved";
  EXPECT_NE(::fcntl(fd, F_GETFL) & O_DIRECT, 0);
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(DiskTierTest, ClosesItsFile) {
  { ASSERT_TRUE(disk_tier(folder.path(), Bytes(MiB))); }
  EXPECT_EQ(open_file_in(folder.path()), -1);
}

TEST_F(DiskTierTest, MayBeEmpty) { EXPECT_TRUE(disk_tier(folder.path(), Bytes(0))); }

TEST_F(DiskTierTest, MoreThanIsFreeIsRefusedWithFolderSizesAndFix) {
  struct statvfs system {};
  ASSERT_EQ(::statvfs(folder.path().c_str(), &system), 0);
  const auto free = static_cast<std::int64_t>(system.f_bavail * system.f_frsize);
  const auto tier = disk_tier(folder.path(), Bytes(2 * free));
  ASSERT_FALSE(tier);
  EXPECT_EQ(tier.error().kind, ErrorKind::run_time);
  EXPECT_THAT(tier.error().message, AllOf(HasSubstr(folder.path().string()), HasSubstr("cannot reserve"),
                                          HasSubstr(" free)"), HasSubstr("No space left"), HasSubstr("disk_limit")));
}

TEST_F(DiskTierTest, AReservationThatTheSystemRefusesIsReported) {
  const FileSizeLimit limit(MiB);
  const auto tier = disk_tier(folder.path(), Bytes(2 * MiB));
  ASSERT_FALSE(tier);
  EXPECT_THAT(tier.error().message, AllOf(HasSubstr("cannot reserve 2.00 MiB"), HasSubstr("File too large")));
}

TEST_F(DiskTierTest, AWriteThatFailsNamesTierOffsetAndReason) {
  const auto tier = disk_tier(folder.path(), Bytes(16 * MiB));
  ASSERT_TRUE(tier);
  const Buffer bytes = buffer(8 * MiB);
  {
    const FileSizeLimit limit(10 * MiB + 8192);
    const Status status = (*tier)->write(4 * MiB, bytes.get(), 8 * MiB);  // cut short inside, then refused
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().kind, ErrorKind::run_time);
    EXPECT_THAT(status.error().message, AllOf(HasSubstr("disk tier in " + folder.path().string()),
                                              HasSubstr("cannot write at offset 1"), HasSubstr("File too large")));
  }
  EXPECT_TRUE((*tier)->write(4 * MiB, bytes.get(), 8 * MiB)) << "the tier goes on when the cause is gone";
}

TEST_F(DiskTierTest, AFileThatLostItsEndIsReported) {
  const auto tier = disk_tier(folder.path(), Bytes(8 * MiB));
  ASSERT_TRUE(tier);
  ASSERT_EQ(::ftruncate(open_file_in(folder.path()), 3 * MiB + 4096), 0);
  const Buffer bytes = buffer(8 * MiB);
  const Status status = (*tier)->read(0, bytes.get(), 8 * MiB);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, AllOf(HasSubstr("cannot read at offset"), HasSubstr("the file ends early")));
}

TEST_F(DiskTierTest, NothingIsKeptInThePageCache) {
  const auto tier = disk_tier(folder.path(), Bytes(4 * MiB));
  ASSERT_TRUE(tier);
  const Buffer bytes = buffer(4 * MiB);
  ASSERT_TRUE((*tier)->write(0, bytes.get(), 4 * MiB));
  ASSERT_TRUE((*tier)->read(0, bytes.get(), 4 * MiB));
  void* view = ::mmap(nullptr, 4 * MiB, PROT_READ, MAP_SHARED, open_file_in(folder.path()), 0);
  ASSERT_NE(view, MAP_FAILED);
  std::vector<unsigned char> pages(4 * MiB / 4096);
  ASSERT_EQ(::mincore(view, 4 * MiB, pages.data()), 0);
  EXPECT_EQ(std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; }), 0);
  ::munmap(view, 4 * MiB);
}

TEST_F(DiskTierTest, AMissingFolderIsRefused) {
  const auto tier = disk_tier(folder.path() / "missing", Bytes(MiB));
  ASSERT_FALSE(tier);
  EXPECT_EQ(tier.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(tier.error().message,
              AllOf(HasSubstr("/missing"), HasSubstr("No such file"), HasSubstr("name another folder")));
}

TEST(DiskTier, AFolderThatTakesNoFilesIsRefused) {
  const auto tier = disk_tier("/proc", Bytes(MiB));  // not writable, for root either
  ASSERT_FALSE(tier);
  EXPECT_EQ(tier.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(tier.error().message, AllOf(HasSubstr("/proc"), HasSubstr("name another folder")));
}

TEST(DiskTier, AFolderInMemoryIsRefused) {
  const auto tier = disk_tier("/dev/shm", Bytes(MiB));
  if (tier) GTEST_SKIP() << "/dev/shm is on a disk here";
  EXPECT_EQ(tier.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(tier.error().message, AllOf(HasSubstr("/dev/shm"), HasSubstr("name another folder")));
}

using DiskTierDeathTest = DiskTierTest;

TEST_F(DiskTierDeathTest, ACopyOutsideTheTierOrUnalignedBreaksAnInvariant) {
  const auto tier = disk_tier(folder.path(), Bytes(MiB));
  ASSERT_TRUE(tier);
  const Buffer bytes = buffer(MiB);
  EXPECT_DEATH((void)(*tier)->write(4096, bytes.get(), MiB), "a copy lies inside its tier");
  EXPECT_DEATH((void)(*tier)->write(512, bytes.get(), 4096), "aligned for direct I/O");
  EXPECT_DEATH((void)(*tier)->read(0, bytes.get() + 8, 4096), "aligned for direct I/O");
}

}  // namespace
}  // namespace memo::exec
