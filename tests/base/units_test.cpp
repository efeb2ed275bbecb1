// Units are types: what has a meaning compiles, what has none does not.
#include "memo/base/units.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace memo {
namespace {

template <class A, class B>
concept Addable = requires(A a, B b) {
  a + b;
};
static_assert(Addable<Bytes, Bytes>);
static_assert(!Addable<Bytes, Tokens>);
static_assert(!Addable<Bytes, std::int64_t>);
static_assert(!std::is_convertible_v<std::int64_t, Bytes>);

TEST(Units, Calculate) {
  EXPECT_EQ(Bytes(3) + Bytes(4) - Bytes(2), Bytes(5));
  EXPECT_EQ(Bytes(3) * 4, Bytes(12));
  EXPECT_EQ(4 * Bytes(3) / 6, Bytes(2));
  EXPECT_DOUBLE_EQ(Bytes(3) / Bytes(4), 0.75);
  EXPECT_LT(Tokens(3), Tokens(4));
  EXPECT_EQ(transfer_time(Bytes(500), BytesPerSecond(1000)), Seconds(0.5));
}

TEST(RoundUp, IsTheSmallestMultipleThatHoldsThem) {
  EXPECT_EQ(round_up(Bytes(0), 64), Bytes(0));
  EXPECT_EQ(round_up(Bytes(1), 64), Bytes(64));
  EXPECT_EQ(round_up(Bytes(64), 64), Bytes(64));
  EXPECT_EQ(round_up(Bytes(65), 64), Bytes(128));
}

}  // namespace
}  // namespace memo
