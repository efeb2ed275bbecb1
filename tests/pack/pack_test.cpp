// Packings validate, lie between the bound and the true optimum's neighbours, and outcomes say what was proved.
#include "memo/pack/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "memo/pack/csv.h"
#include "tests/pack/instances.h"

namespace memo::pack {
namespace {

using testing::IsEmpty;

std::int64_t peak_of(const Instance& instance, const std::vector<std::int64_t>& offsets) {
  std::int64_t peak = 0;
  for (std::size_t i = 0; i < instance.size(); ++i) peak = std::max(peak, offsets[i] + instance[i].size);
  return peak;
}

Instance read(const std::string& name) { return read_csv(Path(MEMO_TEST_DATA) / "dsa" / name).value().instance; }

// Instances small enough for brute force: with alignments, fixed offsets, gaps, or none of them.
std::vector<Instance> small_instances() {
  std::vector<Instance> instances;
  std::mt19937_64 random(7);
  for (int k = 0; k < affordable(450); ++k) {
    Shape shape;
    shape.buffers = 1 + static_cast<std::size_t>(random() % 7);
    if (k % 3 == 1) shape.alignments = {1, 2, 4};
    shape.gaps = k % 5 == 3;
    Instance instance = random_instance(random, shape);
    if (k % 3 == 2) {
      instance[0].fixed = static_cast<std::int64_t>(random() % 8);
      const Buffer &a = instance.front(), &z = instance.back();
      if (instance.size() > 1 && (a.upper <= z.lower || z.upper <= a.lower)) instance.back().fixed = *a.fixed;
    }
    instances.push_back(std::move(instance));
  }
  return instances;
}

TEST(Pack, FindsTheOptimumOfSmallInstancesAndProvesIt) {
  for (const Instance& instance : small_instances()) {
    const std::int64_t optimum = brute_force_peak(instance);
    const Packing packing = pack(instance);
    EXPECT_EQ(packing.outcome, Outcome::optimal);
    EXPECT_EQ(packing.peak, optimum);
    EXPECT_EQ(packing.lower_bound, optimum);
    EXPECT_EQ(packing.peak, peak_of(instance, packing.offsets));
    EXPECT_THAT(validate(instance, packing.offsets, packing.peak), IsEmpty());
    EXPECT_LE(max_live_bytes(instance), lower_bound(instance));
    EXPECT_LE(lower_bound(instance), optimum);
  }
}

TEST(Pack, MixedIntegerProgramFindsTheSameOptima) {
  const std::vector<Instance> instances = small_instances();
  for (std::size_t k = 0; k < instances.size(); k += 9) {
    Options options;
    options.method = Method::mip;
    const std::int64_t optimum = brute_force_peak(instances[k]);
    const Packing packing = pack(instances[k], options);
    EXPECT_EQ(packing.peak, optimum);
    EXPECT_EQ(packing.lower_bound, optimum);
    EXPECT_THAT(validate(instances[k], packing.offsets, packing.peak), IsEmpty());
    options.capacity = optimum - 1;
    EXPECT_EQ(pack(instances[k], options).outcome, Outcome::infeasible);
  }
}

TEST(Pack, DecidesCapacitiesOfSmallInstances) {
  for (const Instance& instance : small_instances()) {
    const std::int64_t optimum = brute_force_peak(instance);
    for (const std::int64_t capacity : {optimum - 1, optimum, optimum + 3}) {
      Options options;
      options.capacity = capacity;
      const Packing packing = pack(instance, options);
      if (capacity < optimum) {
        EXPECT_EQ(packing.outcome, Outcome::infeasible);
        EXPECT_THAT(packing.offsets, IsEmpty());
        EXPECT_GT(packing.lower_bound, capacity);
      } else {
        EXPECT_EQ(packing.outcome, Outcome::optimal);
        EXPECT_THAT(validate(instance, packing.offsets, capacity), IsEmpty());
      }
    }
  }
}

TEST(Pack, NeverBeatsABruteForceOptimumWhenCutShort) {
  Options options;
  options.rounds = 1;  // one greedy order
  for (const Instance& instance : small_instances()) {
    const Packing packing = pack(instance, options);
    ASSERT_EQ(packing.offsets.size(), instance.size());
    EXPECT_GE(packing.peak, brute_force_peak(instance));
    EXPECT_THAT(validate(instance, packing.offsets, packing.peak), IsEmpty());
  }
}

TEST(Pack, FillsTheExampleExactly) {
  const Packing packing = pack(read("example.12.csv"));
  EXPECT_EQ(packing.outcome, Outcome::optimal);
  EXPECT_EQ(packing.peak, 12);
}

TEST(Pack, PacksMediumInstancesValidly) {
  std::mt19937_64 random(11);
  for (int k = 0; k < affordable(30); ++k) {
    const Instance instance = random_instance(random, {200, 100, 1000, {1, 8, 64, 48}, k % 2 == 1});
    Options options;
    options.rounds = 30;
    const Packing packing = pack(instance, options);
    ASSERT_EQ(packing.offsets.size(), instance.size());
    EXPECT_THAT(validate(instance, packing.offsets, packing.peak), IsEmpty());
    EXPECT_GE(packing.peak, packing.lower_bound);
    EXPECT_GE(packing.lower_bound, lower_bound(instance));
  }
}

TEST(Pack, IsTheSameForTheSameSeed) {
  const Instance instance = read("A.1048576.csv");
  Options options;
  options.rounds = 12;
  for (const int threads : {1, 2, 3}) {
    options.threads = threads;
    EXPECT_EQ(pack(instance, options).offsets, pack(instance, options).offsets);
  }
}

TEST(Pack, ProvesInstancesOfMiniMallocOptimal) {
  Options options;
  options.rounds = 2000;  // not a time limit: the same on every machine
  const Packing packing = pack(read("A.1048576.csv"), options);
  EXPECT_EQ(packing.outcome, Outcome::optimal);
  EXPECT_EQ(packing.peak, 1048576);
}

TEST(Pack, DecidesTheCapacitiesThatMiniMallocPublished) {
  for (const char* name : {"A.1048576.csv", "D.1048576.csv"}) {
    Options options;
    options.rounds = 2000;
    options.capacity = 1048576;
    const Packing packing = pack(read(name), options);
    EXPECT_EQ(packing.outcome, Outcome::optimal) << name;
    EXPECT_THAT(validate(read(name), packing.offsets, 1048576), IsEmpty()) << name;
  }
}

TEST(Pack, ImprovesWithRounds) {
  const Instance instance = read("D.1048576.csv");
  Options few, more;
  few.rounds = 1;
  more.rounds = 60;
  EXPECT_LT(pack(instance, more).peak, pack(instance, few).peak);
}

TEST(Pack, PacksTracesOfTrainingAtTheirBound) {
  for (const char* name : {"gpt2_2l.csv", "llama_4l.csv", "qwen3_4l_2s.csv", "llama_8l_ckpt_3s.csv"}) {
    Options options;
    options.time_limit = 120;  // far more than they take: each ends at its bound
    const Instance instance = read(name);
    const Packing packing = pack(instance, options);
    EXPECT_EQ(packing.outcome, Outcome::optimal) << name;
    EXPECT_EQ(packing.peak, max_live_bytes(instance)) << name;
    EXPECT_THAT(validate(instance, packing.offsets, packing.peak), IsEmpty()) << name;
  }
}

TEST(Pack, ReportsATimeoutWhenACapacityIsNeitherMetNorRefuted) {
  const Instance instance = read("D.1048576.csv");
  Options options;
  options.capacity = lower_bound(instance);
  options.rounds = 50;
  const Packing packing = pack(instance, options);
  EXPECT_EQ(packing.outcome, Outcome::timeout);
  EXPECT_THAT(packing.offsets, IsEmpty());
}

TEST(Pack, EndsWhenStopped) {
  const std::atomic<int> stop = 1;
  Options options;
  options.time_limit = 1e9;
  options.stop = &stop;
  EXPECT_EQ(pack(read("A.1048576.csv"), options).outcome, Outcome::feasible);  // minimising always has a packing
  options.capacity = 1048576;
  EXPECT_EQ(pack(read("A.1048576.csv"), options).outcome, Outcome::timeout);
}

TEST(Pack, KeepsFixedBuffersAmongMovableOnes) {
  std::mt19937_64 random(3);
  for (int k = 0; k < 20; ++k) {
    Instance instance = random_instance(random, {100, 60, 50, {1, 4}});
    Options options;
    options.rounds = 20;
    const Packing free = pack(instance, options);
    for (std::size_t i = 0; i < instance.size(); i += 3) instance[i].fixed = free.offsets[i];
    const Packing packing = pack(instance, options);
    EXPECT_THAT(validate(instance, packing.offsets, packing.peak), IsEmpty());
  }
}

TEST(Pack, TakesNoBuffers) {
  const Packing packing = pack({});
  EXPECT_EQ(packing.outcome, Outcome::optimal);
  EXPECT_EQ(packing.peak, 0);
}

TEST(Pack, PacksAHundredThousandBuffers) {
  std::mt19937_64 random(5);
  Instance instance;
  for (std::int64_t i = 0; i < 100000; ++i) {
    Buffer b;
    b.lower = static_cast<std::int64_t>(random() % 1000000);
    b.upper = b.lower + 1 + static_cast<std::int64_t>(random() % (i % 50 == 0 ? 300000U : 500U));
    b.size = static_cast<std::int64_t>(1 + random() % 64) * 512;
    instance.push_back(b);
  }
  Options options;
  options.time_limit = 300;
  options.rounds = 1;
  const Packing packing = pack(instance, options);
  ASSERT_EQ(packing.offsets.size(), instance.size());
  EXPECT_THAT(validate(instance, packing.offsets, packing.peak), IsEmpty());
}

}  // namespace
}  // namespace memo::pack
