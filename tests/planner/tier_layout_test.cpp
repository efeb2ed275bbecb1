// Places on the tier: aligned, none that two contents share at a time, no more bytes than are alive together need.
#include "memo/planner/tier_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "memo/planner/planner.h"
#include "tests/planner/step_words.h"
#include "valid_plans.h"

namespace memo::planner {
namespace {

// A content of the tier: from the boundary where its write starts up to that where its last fetch has ended.
struct Content {
  std::string name;
  std::int64_t begin = 0, end = 0;     // boundaries
  std::int64_t offset = 0, bytes = 0;  // rounded up to what a copy moves
};

struct Laid {
  std::vector<Content> contents;
  std::int64_t bytes = 0;
};

Laid laid(const Profile& profile, const Placement& placement, const Pace& pace) {
  const plan::Instances index(profile.flow);
  const PlacementMap places(profile.flow, placement.classes);
  const Schedule calls = schedule(profile, places, pace.early_updates);
  const Residencies made = residencies(profile, index, places, calls, pace);
  const TierLayout layout = lay_out_tiers(profile, index, places, made.stays);
  EXPECT_EQ(layout.bytes.size(), profile.tiers.size());
  std::map<std::string, Content> contents;
  for (const Stay& stay : made.stays) {
    if (!stay.write_at.exists() && !stay.fetched) continue;
    const Tensor tensor = index.tensor(stay.tensor);
    const std::int64_t bytes = round_up(tensor.bytes, 4096).value();
    const std::string name = fmt::format("{}, life {}", tensor_word(profile.flow, tensor), stay.life);
    auto& content =
        contents.try_emplace(name, Content{name, 1 << 30, 0, layout.offset(stay).value(), bytes}).first->second;
    EXPECT_EQ(content.offset, layout.offset(stay).value()) << name << " has one place";
    const bool persistent = item(profile.flow.classes, tensor.cls).persistent();
    if (persistent) content.begin = 0, content.end = 1 << 29;  // from step to step
    if (stay.write_at.exists()) {
      content.begin = std::min<std::int64_t>(content.begin, plain(stay.write_at));
      content.end = std::max<std::int64_t>(content.end, plain(stay.write_before));
    }
    if (stay.fetched) content.end = std::max<std::int64_t>(content.end, plain(stay.first_use));
  }
  Laid result{{}, layout.bytes.at(0).value()};
  for (const auto& [name, content] : contents) result.contents.push_back(content);
  return result;
}

template <class F>
void for_each_layout(const F& check) {
  const Profile profile = small_step(4);
  for (const auto& [name, placement] : placements(profile))
    for (const Pace& pace : {Pace{1}, Pace{2, true}}) {
      SCOPED_TRACE(testing::Message() << name << ", " << pace.slots << " slots");
      check(laid(profile, placement, pace), name);
    }
}

TEST(TierLayout, PlacesAreAlignedAndInsideTheTier) {
  for_each_layout([](const Laid& tier, const std::string& name) {
    EXPECT_EQ(tier.contents.empty(), name == "resident" || name == "recompute");
    for (const Content& content : tier.contents) {
      EXPECT_EQ(content.offset % 4096, 0) << content.name;
      EXPECT_GE(content.offset, 0) << content.name;
      EXPECT_LE(content.offset + content.bytes, tier.bytes) << content.name;
    }
  });
}

TEST(TierLayout, ContentsThatAreThereTogetherShareNoByte) {
  for_each_layout([](const Laid& tier, const std::string&) {
    for (std::size_t i = 0; i < tier.contents.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        const Content &a = tier.contents[i], &b = tier.contents[j];
        const bool together = a.begin < b.end && b.begin < a.end;
        const bool share = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
        EXPECT_FALSE(together && share) << a.name << " and " << b.name;
      }
  });
}

TEST(TierLayout, TheTierIsNoLargerThanItsBundlesAliveTogether) {
  for_each_layout([](const Laid& tier, const std::string& name) {
    if (tier.contents.empty()) {
      EXPECT_EQ(tier.bytes, 0);
      return;
    }
    std::int64_t most = 0, all = 0;
    for (const Content& at : tier.contents) {
      std::int64_t alive = 0;
      for (const Content& other : tier.contents)
        if (other.begin <= at.begin && at.begin < other.end) alive += other.bytes;
      most = std::max(most, alive);
      all += at.bytes;
    }
    EXPECT_GE(tier.bytes, most) << "what is alive together has room";
    EXPECT_LE(tier.bytes, all) << "and no more than one place each";
    if (name != "streamed") return;
    EXPECT_LT(tier.bytes, all) << "contents of different times share bytes";
  });
}

TEST(TierLayout, APlanKeepsToTheTiersCapacity) {
  Profile profile = small_step();
  const plan::Plan offload = plan_or_fail(profile, {.strategy = "offload", .device_limit = {}});
  const Bytes whole = offload.program.tier_bytes.at(0);
  ASSERT_GT(whole, Bytes(0));
  for (const std::int64_t part : {1, 4}) {
    profile.tiers[0].capacity = round_up(whole * part / 4, 4096);
    for (const char* strategy : {"offload", "memo"}) {  // on a device that cannot keep all
      const auto plan = make_plan(profile, {.strategy = strategy, .device_limit = offload.program.arena});
      EXPECT_TRUE(plan || part < 4) << strategy << ": there is room";
      if (!plan) continue;
      EXPECT_LE(plan->program.tier_bytes.at(0), profile.tiers[0].capacity) << strategy << ", " << part << " quarters";
      expect_valid(*plan);
      EXPECT_TRUE(part < 4 || plan->program.tier_bytes.at(0) > Bytes(0)) << strategy;
    }
  }
}

}  // namespace
}  // namespace memo::planner
