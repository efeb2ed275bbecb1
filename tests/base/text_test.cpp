// Quantities and names as people write them.
#include "memo/base/text.h"

#include <gtest/gtest.h>

namespace memo {
namespace {

TEST(ParseBytes, TakesBinaryAndDecimalUnits) {
  struct Case {
    const char* text;
    std::int64_t bytes;
  };
  for (const Case& c : {Case{"0", 0}, Case{"4096", 4096}, Case{"7B", 7}, Case{"1KiB", 1024}, Case{"512 MiB", 512 << 20},
                        Case{"1.5GiB", 3LL << 29}, Case{"2TiB", 2LL << 40}, Case{"1kB", 1000}, Case{"1KB", 1000},
                        Case{"1.5MB", 1500000}, Case{"3GB", 3000000000}, Case{"1TB", 1000000000000}}) {
    const Result<Bytes> bytes = parse_bytes(c.text);
    ASSERT_TRUE(bytes) << c.text;
    EXPECT_EQ(bytes->value(), c.bytes) << c.text;
  }
}

TEST(ParseBytes, RefusesWhatIsNoSize) {
  for (const char* text : {"", "GiB", "1gib", "1kiB", "1 GiB more", "-1", "-1GiB", "nan", "inf", "1e3", "1.5", "0x10",
                           "1,5GiB", " 1", "9999999TiB"})
    EXPECT_FALSE(parse_bytes(text)) << text;
  EXPECT_EQ(parse_bytes("1GiBB").error().message, "'1GiBB' is not a size; write for example \"512MiB\" or \"1.5GiB\"");
}

TEST(Format, IsShortAndHasUnits) {
  EXPECT_EQ(format_bytes(Bytes(1023)), "1023 B");
  EXPECT_EQ(format_bytes(Bytes(3LL << 29)), "1.50 GiB");
  EXPECT_EQ(format_bytes(Bytes(5LL << 50)), "5120.00 TiB");
  EXPECT_EQ(format_seconds(Seconds(120)), "120 s");
  EXPECT_EQ(format_seconds(Seconds(1.5)), "1.50 s");
  EXPECT_EQ(format_seconds(Seconds(0.0123)), "12.3 ms");
  EXPECT_EQ(format_seconds(Seconds(4e-6)), "4.0 us");
  EXPECT_EQ(format_rate(BytesPerSecond(1.9e9)), "1.90 GB/s");
  EXPECT_EQ(format_rate(BytesPerSecond(436e6)), "436 MB/s");
}

TEST(OneLine, HasNoControlCharacters) { EXPECT_EQ(one_line("a\nb\r\tc\x1b[0m"), "a b  c [0m"); }

TEST(NearestName, IsWithinReachOrNothing) {
  const std::vector<std::string> known{"train.steps", "train.lr", "model.path"};
  EXPECT_EQ(nearest_name("train.stepz", known), "train.steps");
  EXPECT_EQ(nearest_name("steps", known), "");
  EXPECT_EQ(nearest_name("", known), "");
  EXPECT_EQ(nearest_name("x", {}), "");
}

TEST(Fnv1a, MatchesThePublishedVectors) {  // http://www.isthe.com/chongo/tech/comp/fnv
  EXPECT_EQ(fnv1a("", 0), 0xcbf29ce484222325ULL);
  EXPECT_EQ(fnv1a("a", 1), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(fnv1a("foobar", 6), 0x85944171f73967e8ULL);
  EXPECT_EQ(fnv1a("bar", 3, fnv1a("foo", 3)), fnv1a("foobar", 6)) << "continued";
  EXPECT_EQ(hex16(0xaf63), "000000000000af63");
}

}  // namespace
}  // namespace memo
