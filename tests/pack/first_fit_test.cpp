// First fit against its definition: the lowest aligned offset that no earlier buffer of an overlapping life takes.
#include "memo/pack/first_fit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/pack/instances.h"

namespace memo::pack {
namespace {

constexpr std::int64_t no_ceiling = std::numeric_limits<std::int64_t>::max();

std::vector<std::int64_t> by_definition(const Instance& instance, const std::vector<std::uint32_t>& order) {
  std::vector<std::int64_t> offsets(instance.size());
  for (std::size_t k = 0; k < order.size(); ++k) {
    const Buffer& b = instance[order[k]];
    const auto taken = [&](std::int64_t at) {
      return std::any_of(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), [&](std::uint32_t i) {
        const Buffer& c = instance[i];
        return together(b, c) && at < offsets[i] + c.size && offsets[i] < at + b.size;
      });
    };
    while (taken(offsets[order[k]])) offsets[order[k]] += b.alignment;
  }
  return offsets;
}

TEST(FirstFit, FollowsItsDefinition) {
  std::mt19937_64 random(2);
  for (int k = 0; k < 200; ++k) {
    const Instance instance = random_instance(random, {1 + random() % 60, 40, 20, {1, 2, 3, 8}, k % 2 == 1});
    std::vector<std::uint32_t> order(instance.size());
    std::iota(order.begin(), order.end(), 0U);
    std::shuffle(order.begin(), order.end(), random);
    FirstFit first_fit(instance);
    std::vector<std::int64_t> offsets;
    for (int again = 0; again < 2; ++again) {  // nothing stays behind
      EXPECT_EQ(first_fit
                    .place(
                        order, no_ceiling, [] { return false; }, offsets)
                    .end,
                FirstFit::End::placed);
      EXPECT_EQ(offsets, by_definition(instance, order));
    }
  }
}

TEST(FirstFit, NamesTheBufferThatEndsAboveTheCeiling) {
  const Instance instance = {{0, 2, 4, 1, {}}, {1, 3, 4, 1, {}}, {5, 6, 9, 1, {}}};
  FirstFit first_fit(instance);
  std::vector<std::int64_t> offsets;
  const auto place = [&](std::int64_t ceiling) {
    return first_fit.place(
        {2, 0, 1}, ceiling, [] { return false; }, offsets);
  };
  EXPECT_EQ(place(9).end, FirstFit::End::placed);
  EXPECT_EQ(place(8).end, FirstFit::End::over_ceiling);
  EXPECT_EQ(place(8).position, 0U);
}

TEST(FirstFit, KnowsThePeakLoadOfEachLife) {
  std::mt19937_64 random(4);
  for (int k = 0; k < 100; ++k) {
    const Instance instance = random_instance(random, {25, 15, 9, {1}, k % 2 == 1});
    const std::vector<std::int64_t> peaks = FirstFit(instance).peak_loads();
    for (std::size_t i = 0; i < instance.size(); ++i) {
      std::int64_t peak = 0;
      for (std::int64_t time = instance[i].lower; time < instance[i].upper; ++time) {
        if (!alive(instance[i], time)) continue;
        std::int64_t live = 0;
        for (const Buffer& b : instance) live += alive(b, time) ? b.size : 0;
        peak = std::max(peak, live);
      }
      EXPECT_EQ(peaks[i], peak);
    }
  }
}

}  // namespace
}  // namespace memo::pack
