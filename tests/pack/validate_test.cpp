// The validator names what fails, and accepts exactly what a comparison of all pairs accepts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "memo/pack/pack.h"
#include "tests/pack/instances.h"

namespace memo::pack {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

const Instance two = {{0, 4, 10, 1, {}}, {3, 8, 10, 1, {}}};

TEST(Validate, AcceptsNeighboursInTimeAndInAddress) {
  EXPECT_THAT(validate(two, {0, 10}), IsEmpty());
  EXPECT_THAT(validate({{0, 4, 10, 1, {}}, {4, 8, 10, 1, {}}}, {0, 0}, 10), IsEmpty());
}

TEST(Validate, NamesEachFailure) {
  EXPECT_THAT(validate(two, {0, 9}), ElementsAre("overlap: buffers 0 at [0, 10) and 1 at [9, 19) both live at time 3"));
  EXPECT_THAT(validate(two, {0}), ElementsAre(StartsWith("count: 1 offsets for 2 buffers")));
  EXPECT_THAT(validate(two, {-1, 10}), ElementsAre(StartsWith("negative offset: buffer 0")));
  EXPECT_THAT(validate(two, {0, 10}, 19), ElementsAre(StartsWith("over capacity: buffer 1 ends at 20 of 19")));
  EXPECT_THAT(validate({{0, 1, 4, 8, {}}}, {12}), ElementsAre(StartsWith("misaligned: buffer 0 at 12")));
  EXPECT_THAT(validate({{0, 1, 4, 1, 16}}, {12}), ElementsAre(AllOf(StartsWith("moved: buffer 0"), HasSubstr("16"))));
  EXPECT_THAT(validate({{0, 1, 4, 1, {}}}, {std::numeric_limits<std::int64_t>::max() - 3}),
              ElementsAre(StartsWith("overflow: buffer 0")));
  EXPECT_THAT(validate({{0, 0, 4, 1, {}}, {0, 1, 0, 1, {}}, {0, 1, 4, 0, {}}}, {0, 0, 0}),
              ElementsAre(StartsWith("malformed: buffer 0"), StartsWith("malformed: buffer 1"),
                          StartsWith("malformed: buffer 2")));
}

TEST(Validate, ReportsAtMostSoMany) {
  const Instance instance(50, Buffer{0, 1, 4, 1, {}});
  EXPECT_THAT(validate(instance, std::vector<std::int64_t>(50, 0), {}, 7), SizeIs(7));
}

TEST(Validate, AgreesWithAllPairs) {
  std::mt19937_64 random(9);
  int sound = 0;
  for (int k = 0; k < 3000; ++k) {
    const Instance instance = random_instance(random, {1 + random() % 8, 12, 6, {1}});
    std::vector<std::int64_t> offsets;
    for (std::size_t i = 0; i < instance.size(); ++i) offsets.push_back(static_cast<std::int64_t>(random() % 40));
    bool overlap = false;
    for (std::size_t i = 0; i < instance.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        const Buffer &a = instance[i], &b = instance[j];
        overlap |= a.lower < b.upper && b.lower < a.upper && offsets[i] < offsets[j] + b.size &&
                   offsets[j] < offsets[i] + a.size;
      }
    sound += overlap ? 0 : 1;
    EXPECT_EQ(validate(instance, offsets).empty(), !overlap);
  }
  EXPECT_GT(sound, 300);
  EXPECT_LT(sound, 2700);
}

TEST(Validate, FindsAnOverlapPlantedInAPacking) {
  std::mt19937_64 random(6);
  for (int k = 0; k < 50; ++k) {
    Instance instance = random_instance(random, {100, 50, 30, {1}});
    Options options;
    options.rounds = 1;
    std::vector<std::int64_t> offsets = pack(instance, options).offsets;
    ASSERT_THAT(validate(instance, offsets), IsEmpty());
    instance.push_back(instance[random() % instance.size()]);
    instance.back().size = 1;
    offsets.push_back(offsets[static_cast<std::size_t>(random() % offsets.size())]);
    const auto pairs = overlaps(instance, offsets, 20);
    EXPECT_EQ(validate(instance, offsets).empty(), pairs.empty());
    for (const auto& [a, b] : pairs) EXPECT_TRUE(a == 100 || b == 100);
  }
}

}  // namespace
}  // namespace memo::pack
