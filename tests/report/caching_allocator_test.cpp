// The model of PyTorch's caching allocator, rule by rule.
#include "memo/report/caching_allocator.h"

#include <gtest/gtest.h>

namespace memo::report {
namespace {

constexpr Bytes kib(1024), mib(1 << 20);

int take(CachingAllocator& allocator, Bytes bytes) {
  const auto handle = allocator.allocate(bytes);
  EXPECT_TRUE(handle.has_value());
  return handle.value_or(-1);
}

TEST(CachingAllocator, RoundsRequestsTo512Bytes) {
  CachingAllocator allocator;
  take(allocator, Bytes(1));
  EXPECT_EQ(allocator.allocated(), Bytes(512));
  take(allocator, Bytes(513));
  EXPECT_EQ(allocator.allocated(), Bytes(512 + 1024));
}

TEST(CachingAllocator, ReservesSegmentsBySizeClass) {
  struct Case {
    Bytes request, segment;
  };
  for (const Case& c : {Case{Bytes(1), mib * 2}, Case{mib, mib * 2}, Case{mib + Bytes(1), mib * 20},
                        Case{mib * 10 - Bytes(1024), mib * 20}, Case{mib * 10, mib * 10}, Case{mib * 11, mib * 12},
                        Case{mib * 64 + kib, mib * 66}}) {
    CachingAllocator allocator;
    take(allocator, c.request);
    EXPECT_EQ(allocator.reserved(), c.segment) << c.request.value();
  }
}

TEST(CachingAllocator, SmallRequestsShareASegment) {
  CachingAllocator allocator;
  for (int i = 0; i < 4; ++i) take(allocator, kib * 512);
  EXPECT_EQ(allocator.reserved(), mib * 2);
  take(allocator, Bytes(1));
  EXPECT_EQ(allocator.reserved(), mib * 4);
}

TEST(CachingAllocator, PoolsAreApart) {
  CachingAllocator allocator;
  allocator.free(take(allocator, mib * 5));
  take(allocator, kib * 512);  // does not go into the free 20 MiB
  EXPECT_EQ(allocator.reserved(), mib * 22);
}

TEST(CachingAllocator, ARestOfAtMostOneMibibyteIsNotSplitOff) {
  CachingAllocator allocator;
  take(allocator, mib * 11);
  EXPECT_EQ(allocator.allocated(), mib * 12);  // 1 MiB left: not more than kSmallSize
  CachingAllocator other;
  other.free(take(other, mib * 14));
  take(other, mib * 12);
  EXPECT_EQ(other.allocated(), mib * 12);
}

TEST(CachingAllocator, NeighboursMergeWhenFreed) {
  CachingAllocator allocator;
  const int a = take(allocator, mib * 5), b = take(allocator, mib * 5), c = take(allocator, mib * 5);
  const int d = take(allocator, mib * 5);
  EXPECT_EQ(allocator.reserved(), mib * 20);
  for (const int block : {a, c, b, d}) allocator.free(block);
  EXPECT_EQ(allocator.allocated(), Bytes(0));
  take(allocator, mib * 20);
  EXPECT_EQ(allocator.reserved(), mib * 20);
}

TEST(CachingAllocator, HolesThatAreTooSmallAreFragmentation) {
  CachingAllocator allocator;
  const int a = take(allocator, mib * 5);
  take(allocator, mib * 5);
  const int c = take(allocator, mib * 5);
  take(allocator, mib * 5);
  allocator.free(a);
  allocator.free(c);
  take(allocator, mib * 10);  // 10 MiB are free, in two pieces
  EXPECT_EQ(allocator.reserved(), mib * 30);
  EXPECT_EQ(allocator.allocated(), mib * 20);
}

TEST(CachingAllocator, TakesTheSmallestBlockThatHolds) {
  CachingAllocator allocator;
  const int large = take(allocator, mib * 40), small = take(allocator, mib * 20);
  allocator.free(large);
  allocator.free(small);
  take(allocator, mib * 20);
  take(allocator, mib * 40);  // the large one is still whole
  EXPECT_EQ(allocator.reserved(), mib * 60);
}

TEST(CachingAllocator, GivesBackFreeSegmentsBeforeItFails) {
  CachingAllocator allocator(mib * 64);
  allocator.free(take(allocator, mib * 40));
  take(allocator, mib * 50);
  EXPECT_EQ(allocator.reserved(), mib * 50);
  EXPECT_EQ(allocator.peak_reserved(), mib * 50);
  EXPECT_FALSE(allocator.allocate(mib * 20).has_value());
  EXPECT_EQ(allocator.allocated(), mib * 50);
}

}  // namespace
}  // namespace memo::report
