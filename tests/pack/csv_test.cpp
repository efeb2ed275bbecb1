// The packer's tables: columns under any name and order, mistakes by line, offsets that survive a round trip.
#include "memo/pack/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace memo::pack {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

Csv parse(const std::string& text) {
  Result<Csv> csv = parse_csv(text, "in.csv");
  EXPECT_TRUE(csv.has_value()) << csv.error().message;
  return csv.value_or(Csv());
}

std::string error_of(const std::string& text) {
  const Result<Csv> csv = parse_csv(text, "in.csv");
  EXPECT_FALSE(csv.has_value()) << text;
  if (csv) return "";
  EXPECT_EQ(csv.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(csv.error().message, Not(HasSubstr("\n")));
  return csv.error().message;
}

TEST(Csv, ReadsColumnsByNameInAnyOrder) {
  const Csv csv = parse("size,upper,id,lower,alignment,offset,hint,gaps\n4,9,a,3,2,6,5,\n8,7,b,0,,,,\n");
  ASSERT_EQ(csv.instance.size(), 2U);
  const Buffer &a = csv.instance[0], &b = csv.instance[1];
  EXPECT_EQ(a.lower, 3);
  EXPECT_EQ(a.upper, 9);
  EXPECT_EQ(a.size, 4);
  EXPECT_EQ(a.alignment, 2);
  EXPECT_EQ(a.fixed, 6);
  EXPECT_EQ(b.alignment, 1);
  EXPECT_EQ(b.fixed, std::nullopt);
}

TEST(Csv, UpperIsExclusiveAndEndInclusive) {
  EXPECT_EQ(parse("id,lower,upper,size\nx,3,9,1").instance[0].upper, 9);
  EXPECT_EQ(parse("id,start,end,size\nx,3,9,1").instance[0].upper, 10);
  EXPECT_EQ(parse("buffer_id,begin,end,size\nx,3,3,1").instance[0].upper, 4);
}

TEST(Csv, ReadsGaps) {
  const Buffer b = parse("id,lower,upper,size,gaps\nx,0,20,1,12-15  3-5\n").instance[0];
  ASSERT_EQ(b.gaps.size(), 2U);
  EXPECT_EQ(b.gaps[0].lower, 3);
  EXPECT_EQ(b.gaps[0].upper, 5);
  EXPECT_EQ(b.gaps[1].lower, 12);
  EXPECT_EQ(parse("id,lower,end,size,gaps\nx,0,20,1,3-5\n").instance[0].gaps[0].upper, 6);  // inclusive, as `end`
  const Buffer shorter = parse("id,lower,upper,size,gaps\nx,0,20,1,0-3 15-20\n").instance[0];
  EXPECT_EQ(shorter.lower, 3);
  EXPECT_EQ(shorter.upper, 15);
  EXPECT_TRUE(shorter.gaps.empty());
}

TEST(Csv, TakesOtherLineEndsSpacesBlankLinesAndAByteOrderMark) {
  const Csv csv = parse("\xEF\xBB\xBFid, lower ,upper,size\r\n\r\n x,3 ,9,1\r\n\n");
  ASSERT_EQ(csv.instance.size(), 1U);
  EXPECT_EQ(csv.instance[0].lower, 3);
}

TEST(Csv, AHeaderAloneHasNoBuffers) { EXPECT_TRUE(parse("id,lower,upper,size\n").instance.empty()); }

TEST(Csv, NamesWhatIsWrongWithTheColumns) {
  EXPECT_THAT(error_of(""), StartsWith("in.csv:1: is empty"));
  EXPECT_THAT(error_of("\n \n"), StartsWith("in.csv:1: is empty"));
  EXPECT_THAT(error_of("id,lower,upper\n"), StartsWith("in.csv:1: column 'size' is missing"));
  EXPECT_THAT(error_of("id,upper,size\n"), StartsWith("in.csv:1: column 'lower' or 'begin' or 'start' is missing"));
  EXPECT_THAT(error_of("id,lower,upper,sise\n"), StartsWith("in.csv:1: unknown column 'sise'; did you mean 'size'?"));
  EXPECT_THAT(error_of("id,lower,upper,size,temperature\n"),
              AllOf(StartsWith("in.csv:1: unknown column 'temperature'"), HasSubstr("alignment")));
  EXPECT_THAT(error_of("id,lower,upper,size,size\n"), StartsWith("in.csv:1: columns 'size' and 'size' say the same"));
  EXPECT_THAT(error_of("id,lower,upper,end,size\n"), StartsWith("in.csv:1: columns 'upper' and 'end' say the same"));
}

TEST(Csv, NamesWhatIsWrongWithARow) {
  const std::string header = "id,lower,upper,size,alignment,offset,gaps\nok,0,1,1,,,\n";
  const auto row = [&](const std::string& text) { return error_of(header + text); };
  EXPECT_THAT(row("x,1,2"), StartsWith("in.csv:3: 3 cells under 7 columns"));
  EXPECT_THAT(row("x,1,2,3,,,,"), StartsWith("in.csv:3: 8 cells under 7 columns"));
  EXPECT_THAT(row("x,-1,2,3,,,"), StartsWith("in.csv:3: 'lower' is '-1'; expected a whole number from 0"));
  EXPECT_THAT(row("x,,2,3,,,"), StartsWith("in.csv:3: 'lower' is ''"));
  EXPECT_THAT(row("x,1,2e3,3,,,"), StartsWith("in.csv:3: 'upper' is '2e3'"));
  EXPECT_THAT(row("x,1,9223372036854775808,3,,,"), StartsWith("in.csv:3: 'upper' is '9223372036854775808'"));
  EXPECT_THAT(row("x,2,2,3,,,"), StartsWith("in.csv:3: the buffer is never alive: 'lower' is 2 and 'upper' is 2"));
  EXPECT_THAT(row("x,1,2,0,,,"), StartsWith("in.csv:3: 'size' is '0'; expected a whole number from 1"));
  EXPECT_THAT(row("x,1,2,-5,,,"), StartsWith("in.csv:3: 'size' is '-5'"));
  EXPECT_THAT(row("x,1,2,3,0,,"), StartsWith("in.csv:3: 'alignment' is '0'"));
  EXPECT_THAT(row("x,1,2,3,4,6,"), StartsWith("in.csv:3: fixed offset 6 is not a multiple of the alignment 4"));
  EXPECT_THAT(row("x,1,2,3,,-1,"), StartsWith("in.csv:3: 'offset' is '-1'"));
  EXPECT_THAT(row("x,1,9,3,,,4"), StartsWith("in.csv:3: 'gaps' has '4'; expected pairs such as 3-5"));
  EXPECT_THAT(row("x,1,9,3,,,4-5@0:8"), StartsWith("in.csv:3: 'gaps' has '4-5@0:8'"));
  EXPECT_THAT(row("x,1,9,3,,,4-4"), StartsWith("in.csv:3: gap '4-4' is empty or not inside of the life"));
  EXPECT_THAT(row("x,1,9,3,,,0-4"), StartsWith("in.csv:3: gap '0-4' is empty or not inside of the life"));
  EXPECT_THAT(row("x,1,9,3,,,3-5 4-6"), StartsWith("in.csv:3: gaps 3-5 and 4-6 touch or overlap"));
  EXPECT_THAT(row("x,1,9,3,,,1-9"), StartsWith("in.csv:3: the buffer is never alive: its gaps cover its life"));
  EXPECT_THAT(row("x,1,2,9223372036854775807,,,"), StartsWith("in.csv:3: all sizes together overflow"));
  EXPECT_THAT(row("x,1,2,3,9223372036854775807,,"), StartsWith("in.csv:3: all sizes together overflow"));
  EXPECT_THAT(row("x,1,2,3,,9223372036854775807,"), StartsWith("in.csv:3: all sizes together overflow"));
  EXPECT_THAT(error_of("id,lower,end,size\nx,1,9223372036854775807,3"), StartsWith("in.csv:2: 'end' is too large"));
}

TEST(Csv, RefusesFixedOffsetsThatOverlap) {
  const std::string header = "id,lower,upper,size,offset\n";
  EXPECT_THAT(error_of(header + "a,0,5,10,0\nfree,0,5,10,\nb,4,8,10,9\n"),
              StartsWith("in.csv:4: fixed offset overlaps, in time and address, with that of line 2"));
  parse(header + "a,0,5,10,0\nb,5,8,10,9\nc,0,5,10,10\n");  // apart in time, or in address
}

TEST(Csv, WritesTheSameTableWithOffsets) {
  EXPECT_EQ(format_csv(parse("hint,id,lower,upper,size\n7,a,0,1,4\n,b,0,1,4\n"), {4, 0}),
            "hint,id,lower,upper,size,offset\n7,a,0,1,4,4\n,b,0,1,4,0\n");
  EXPECT_EQ(format_csv(parse("offset,id,lower,upper,size\n8,a,0,1,4\n,b,0,1,4\n"), {8, 0}),
            "offset,id,lower,upper,size\n8,a,0,1,4\n0,b,0,1,4\n");
}

TEST(Csv, ReadsBackWhatItWritesAsFixedOffsets) {
  const Csv csv = read_csv(Path(MEMO_TEST_DATA) / "dsa" / "A.1048576.csv").value();
  Options options;
  options.rounds = 1;
  const std::vector<std::int64_t> offsets = pack(csv.instance, options).offsets;
  const Csv again = parse(format_csv(csv, offsets));
  ASSERT_EQ(again.instance.size(), offsets.size());
  for (std::size_t i = 0; i < offsets.size(); ++i) EXPECT_EQ(again.instance[i].fixed, offsets[i]);
  EXPECT_EQ(pack(again.instance).offsets, offsets);
}

TEST(Csv, SaysWhichFileCannotBeRead) { EXPECT_THAT(read_csv("no/such.csv").error().message, HasSubstr("no/such.csv")); }

// Garbage gives a table or one line, and a table is always safe to pack.
// A buffer of most of the address space, fixed where it was packed, is read back: it counts once.
TEST(Csv, ReadsBackItsLargestPacking) {
  const Result<Csv> csv = parse_csv("id,lower,upper,size\n1,0,5,9223332036854775807\n", "in.csv");
  ASSERT_TRUE(csv) << csv.error().message;
  const Packing packing = pack(csv->instance);
  EXPECT_EQ(packing.peak, 9223332036854775807);
  EXPECT_TRUE(parse_csv(format_csv(*csv, packing.offsets), "out.csv"));
}

TEST(Csv, SurvivesAnyBytes) {
  const std::string seed =
      "id,lower,upper,size,alignment,offset,hint,gaps\na,0,5,10,4,8,3,\nb,2,9,7,,,,3-5 6-7\nc,5,9,1,,0,,\n";
  const std::string likely = "0123456789,,,,\n\n-\r\t \"e.";
  std::mt19937_64 random(13);
  int tables = 0;
  for (int k = 0; k < 30000; ++k) {
    std::string text = k % 10 == 0 ? std::string(random() % 200, '?') : seed;
    if (k % 10 == 0)
      for (char& c : text) c = static_cast<char>(random());
    for (std::uint64_t edits = random() % 6; edits > 0 && !text.empty(); --edits) {
      const std::size_t at = random() % text.size();
      const char c = random() % 4 == 0 ? static_cast<char>(random()) : likely[random() % likely.size()];
      switch (random() % 4) {
        case 0:
          text[at] = c;
          break;
        case 1:
          text.insert(at, 1 + random() % 3, c);
          break;
        case 2:
          text.erase(at, 1 + random() % 9);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 30));
      }
    }
    const Result<Csv> csv = parse_csv(text, "in.csv");
    if (!csv) {
      EXPECT_THAT(csv.error().message, AllOf(StartsWith("in.csv:"), Not(HasSubstr("\n"))));
      EXPECT_TRUE(std::all_of(csv.error().message.begin(), csv.error().message.end(), [](unsigned char c) {
        return c >= 32 && c < 127;
      })) << csv.error().message;
      continue;
    }
    ++tables;
    Options options;
    options.rounds = 20;
    const Packing packing = pack(csv->instance, options);
    ASSERT_EQ(packing.offsets.size(), csv->instance.size());
    ASSERT_TRUE(validate(csv->instance, packing.offsets, packing.peak).empty());
    ASSERT_TRUE(parse_csv(format_csv(*csv, packing.offsets), "out.csv").has_value());
  }
  EXPECT_GT(tables, 3000);
}

}  // namespace
}  // namespace memo::pack
