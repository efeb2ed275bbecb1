// A beam that drops no state finds the least peak; a narrow one packs validly or gives up, a hard instance too.
#include "memo/pack/beam.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memo/pack/csv.h"
#include "tests/pack/instances.h"

namespace memo::pack {
namespace {

using testing::IsEmpty;

constexpr auto never = [] { return false; };

TEST(Beam, WithoutAWidthPacksTheLeastPeak) {
  std::mt19937_64 random(5);
  for (int k = 0; k < affordable(150); ++k) {
    const Instance instance = small_instance(random, k);
    const std::int64_t least = brute_force_peak(instance);
    Skyline skyline(instance);
    std::int64_t nodes = 0;
    EXPECT_NE(beam_search(skyline, least - 1, {100'000, 1000, 1}, nodes, never), Verdict::packed);
    ASSERT_EQ(beam_search(skyline, least, {100'000, 1000, 1}, nodes, never), Verdict::packed);
    EXPECT_THAT(validate(instance, skyline.offsets(), least), IsEmpty());
  }
}

TEST(Beam, PacksAHardInstanceAtItsBound) {
  const Instance instance = read_csv(Path(MEMO_TEST_DATA) / "dsa/D.1048576.csv").value().instance;
  const std::int64_t bound = lower_bound(instance);
  Skyline skyline(instance);
  std::int64_t nodes = 0;
  ASSERT_EQ(beam_search(skyline, bound, {25, 5, 2000}, nodes, never), Verdict::packed);
  EXPECT_THAT(validate(instance, skyline.offsets(), bound), IsEmpty());
}

TEST(Beam, ANarrowOnePacksValidlyOrGivesUp) {
  std::mt19937_64 random(9);
  int packed = 0;
  for (int k = 0; k < affordable(20); ++k) {
    Shape shape;
    shape.buffers = 40;
    shape.times = 30;
    shape.gaps = k % 2 == 0;
    const Instance instance = random_instance(random, shape);
    const std::int64_t capacity = lower_bound(instance) + k % 3;
    Skyline skyline(instance);
    std::int64_t nodes = 0;
    const Verdict verdict = beam_search(skyline, capacity, {8, 2, 4}, nodes, never);
    EXPECT_NE(verdict, Verdict::refuted);
    if (verdict != Verdict::packed) continue;
    ++packed;
    EXPECT_THAT(validate(instance, skyline.offsets(), capacity), IsEmpty());
  }
  EXPECT_GT(packed, 0);
}

TEST(Beam, EndsWhenInterrupted) {
  const Instance instance{{0, 2, 1, 1, {}}, {0, 2, 2, 1, {}}, {1, 3, 3, 1, {}}};
  Skyline skyline(instance);
  std::int64_t nodes = 0;
  EXPECT_EQ(beam_search(skyline, 6, {}, nodes, [] { return true; }), Verdict::cut_off);
  EXPECT_EQ(nodes, 0);
}

}  // namespace
}  // namespace memo::pack
