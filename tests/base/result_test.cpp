// MEMO_TRY and MEMO_CHECKED hand a failure on unchanged.
#include "memo/base/result.h"

#include <gtest/gtest.h>

#include <memory>

#include "memo/base/check.h"

namespace memo {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return fail(ErrorKind::infeasible, "odd");
  return n / 2;
}
Result<int> quarter(int n) {
  MEMO_TRY(const int once, half(n));
  MEMO_TRY(const int twice, half(once));
  return twice;
}
Status is_even(int n) {
  MEMO_CHECKED(half(n));
  return {};
}

TEST(Result, TryYieldsTheValueOrHandsTheErrorOn) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).error().kind, ErrorKind::infeasible);
  EXPECT_EQ(quarter(6).error().message, "odd");
}

TEST(Result, CheckedHandsTheErrorOn) {
  EXPECT_TRUE(is_even(2));
  EXPECT_EQ(is_even(1).error().message, "odd");
}

TEST(Result, TryMovesWhatCannotBeCopied) {
  const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(7); };
  const auto use = [&]() -> Result<int> {
    MEMO_TRY(const std::unique_ptr<int> value, make());
    return *value;
  };
  EXPECT_EQ(*use(), 7);
}

TEST(Check, AbortsWithTheInvariantsName) {
  MEMO_CHECK(true, "never said");
  EXPECT_DEATH(MEMO_CHECK(1 > 2, "one is more than two"), "invariant broken: one is more than two");
}

}  // namespace
}  // namespace memo
