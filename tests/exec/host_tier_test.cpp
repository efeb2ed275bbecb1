// Host memory as a tier: its size, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "memo/exec/tier.h"

namespace memo::exec {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(HostTier, KeepsBytesUpToItsLastOne) {
  const auto tier = host_tier(Bytes(3 * 4096 + 5));
  ASSERT_TRUE(tier);
  const std::vector<std::byte> wrote(7, std::byte{42});
  ASSERT_TRUE((*tier)->write(3 * 4096 - 2, wrote.data(), 7));
  std::vector<std::byte> read(7);
  ASSERT_TRUE((*tier)->read(3 * 4096 - 2, read.data(), 7));
  EXPECT_EQ(read, wrote);
}

TEST(HostTier, MayBeEmpty) { EXPECT_TRUE(host_tier(Bytes(0))); }

TEST(HostTier, MoreThanTheAddressSpaceIsRefusedWithTheFix) {
  const auto tier = host_tier(Bytes(std::int64_t{1} << 60));
  ASSERT_FALSE(tier);
  EXPECT_EQ(tier.error().kind, ErrorKind::run_time);
  EXPECT_THAT(tier.error().message,
              AllOf(HasSubstr("host tier"), HasSubstr("1048576.00 TiB"), HasSubstr("host_limit")));
}

TEST(HostTierDeathTest, ACopyOutsideTheTierBreaksAnInvariant) {
  const auto tier = host_tier(Bytes(4096));
  ASSERT_TRUE(tier);
  std::vector<std::byte> bytes(8192);
  EXPECT_DEATH((void)(*tier)->write(1, bytes.data(), 4096), "a copy lies inside its tier");
  EXPECT_DEATH((void)(*tier)->read(-1, bytes.data(), 1), "a copy lies inside its tier");
}

}  // namespace
}  // namespace memo::exec
