// Vector clocks on ranges of bytes, by hand.
#include "memo/exec/ordering.h"

#include <gtest/gtest.h>

namespace memo::exec {
namespace {

constexpr Range low{0, 0, 100}, high{0, 100, 200}, across{0, 90, 110}, elsewhere{1, 0, 100};

TEST(Ordering, WithoutAnEventTwoStreamsRace) {
  Ordering order;
  EXPECT_FALSE(order.access(Stream::compute, true, low, 7));
  const auto race = order.access(Stream::out, false, across, 8);
  ASSERT_TRUE(race);
  EXPECT_EQ(race->first.what, 7);
  EXPECT_EQ(race->first.stream, Stream::compute);
  EXPECT_TRUE(race->first.write);
  EXPECT_EQ(race->second.what, 8);
  EXPECT_EQ(race->second.stream, Stream::out);
  EXPECT_EQ(race->where.begin, 90);
  EXPECT_EQ(race->where.end, 100);
}

TEST(Ordering, AnEventOrdersWhatCameBeforeIt) {
  Ordering order;
  EXPECT_FALSE(order.access(Stream::compute, true, low, 0));
  order.join(Stream::out, order.event(Stream::compute));
  EXPECT_FALSE(order.access(Stream::out, false, low, 1));
  EXPECT_FALSE(order.access(Stream::compute, true, high, 2));
  EXPECT_TRUE(order.access(Stream::out, false, high, 3)) << "the write came after the event";
  EXPECT_EQ(order.accesses(), 4);
  EXPECT_EQ(order.conflicts(), 2);
}

TEST(Ordering, EventsCarryWhatTheirStreamHadJoined) {
  Ordering order;
  EXPECT_FALSE(order.access(Stream::out, true, low, 0));
  order.join(Stream::compute, order.event(Stream::out));
  order.join(Stream::in, order.event(Stream::compute));
  EXPECT_FALSE(order.access(Stream::in, false, low, 1));
}

TEST(Ordering, OnlyWritesConflict) {
  Ordering order;
  EXPECT_FALSE(order.access(Stream::compute, false, low, 0));
  EXPECT_FALSE(order.access(Stream::out, false, low, 1));
  EXPECT_FALSE(order.access(Stream::in, false, low, 2));
  const auto race = order.access(Stream::in, true, low, 3);
  ASSERT_TRUE(race);
  EXPECT_EQ(race->first.what, 0);
}

TEST(Ordering, OtherBytesAndOtherSpacesDoNotConflict) {
  Ordering order;
  EXPECT_FALSE(order.access(Stream::compute, true, low, 0));
  EXPECT_FALSE(order.access(Stream::in, true, high, 1));
  EXPECT_FALSE(order.access(Stream::in, true, elsewhere, 2));
  EXPECT_FALSE(order.access(Stream::in, true, {0, 50, 50}, 3)) << "an empty range is no access";
}

TEST(Ordering, AReadOfAWiderRangeIsRememberedInAllOfIt) {
  Ordering order;
  EXPECT_FALSE(order.access(Stream::compute, false, across, 0));  // cells with gaps before, between and behind
  EXPECT_FALSE(order.access(Stream::compute, false, {0, 150, 160}, 1));
  EXPECT_FALSE(order.access(Stream::out, false, {0, 0, 200}, 2));
  for (const std::int64_t byte : {0, 89, 95, 130, 155, 199}) {
    const auto race = order.access(Stream::in, true, {0, byte, byte + 1}, 3);
    EXPECT_TRUE(race) << byte;
  }
  EXPECT_FALSE(order.access(Stream::in, true, {0, 200, 201}, 4));
}

TEST(Ordering, WhenAllHasEndedNothingRaces) {
  Ordering order;
  EXPECT_FALSE(order.access(Stream::out, true, low, 0));
  order.all_ended();
  EXPECT_FALSE(order.access(Stream::compute, true, low, 1));
}

}  // namespace
}  // namespace memo::exec
