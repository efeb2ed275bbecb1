// The order of a step's calls against the drawing in memo/model/dataflow.h, and where what is computed again is.
#include "memo/planner/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/planner/step_words.h"

namespace memo::planner {
namespace {

using Words = std::vector<std::string>;

class StepAsDrawn {
 public:
  StepAsDrawn(int layers, int blocks, int groups) : layers_(layers), blocks_(blocks), groups_(groups) {}
  Words whole() {
    for (int b = 0; b < blocks_; ++b) say("embedding block {}", b), before(0, b);
    core("", 0);
    for (int l = 1; l < layers_; ++l) {
      for (int b = 0; b < blocks_; ++b) after(l - 1, b), before(l, b);
      core("", l);
    }
    for (int b = 0; b < blocks_; ++b) after(layers_ - 1, b), say("loss block {}", b), after_backward(layers_ - 1, b);
    core("'", layers_ - 1);
    for (int l = layers_ - 1; l > 0; --l) {
      for (int b = blocks_ - 1; b >= 0; --b) say("attn_in'({}) block {}", l, b), after_backward(l - 1, b);
      core("'", l - 1);
    }
    for (int b = blocks_ - 1; b >= 0; --b) say("attn_in'(0) block {}", b), say("embedding' block {}", b);
    for (int l = 0; l < layers_; ++l) say("update.before({})", l), say("update.after({})", l);
    say("optimizer");
    return words_;
  }
  Words alone() {
    for (int l = 0; l < layers_; ++l) {
      for (int b = 0; b < blocks_; ++b) say("input({}) block {}", l, b), say("before({}) block {}", l, b);
      core("", l);
      for (int b = 0; b < blocks_; ++b) say("after({}) block {}", l, b);
    }
    say("wait");
    say("wait");
    for (int l = layers_ - 1; l >= 0; --l) {
      for (int b = blocks_ - 1; b >= 0; --b) say("after'({}) block {}", l, b);
      core("'", l);
      for (int b = blocks_ - 1; b >= 0; --b) say("before'({}) block {}", l, b);
    }
    return words_;
  }

 private:
  template <class... Args>
  void say(fmt::format_string<const Args&...> form, const Args&... args) {
    words_.push_back(fmt::format(form, args...));
  }
  void before(int l, int b) { say("attn_in({}) block {}", l, b); }
  void core(const char* side, int l) {
    for (int g = 0; g < groups_; ++g) say("attention{}({}) group {}", side, l, g);
  }
  void after(int l, int b) {
    for (const char* segment : {"attn_out", "mlp_in", "mlp_out"}) say("{}({}) block {}", segment, l, b);
  }
  void after_backward(int l, int b) {
    for (const char* segment : {"mlp_out", "mlp_in", "attn_out"}) say("{}'({}) block {}", segment, l, b);
  }
  int layers_, blocks_, groups_;
  Words words_;
};

Schedule scheduled(const Profile& profile, const Placement& placement, bool early_updates = false) {
  return schedule(profile, PlacementMap(profile.flow, placement.classes), early_updates);
}

bool is_again(const Call& call) { return call.phase == Phase::rerun; }

TEST(Schedule, AStepIsAsDrawn) {
  for (const int layers : {1, 2, 4})
    for (const auto& [context, blocks] : {std::pair(64, 1), {192, 3}, {224, 4}})
      for (const int groups : {1, 2}) {
        const Profile profile = plan::synthetic_profile({.hidden = 64,
                                                         .layers = layers,
                                                         .heads = 2,
                                                         .kv_heads = 2,
                                                         .ffn = 64,
                                                         .groups = groups,
                                                         .context = context,
                                                         .block = 64});
        EXPECT_EQ(words(profile.flow, scheduled(profile, {}).calls), StepAsDrawn(layers, blocks, groups).whole())
            << layers << " layers, " << blocks << " blocks";
      }
}

TEST(Schedule, AStepOfLayersAloneIsAsDrawnWithWaitsForTheLoss) {
  Profile profile;
  profile.flow = model::layers_dataflow({3, 64, 2, 2, 32}, 4, 4, 2, Tokens(256), Tokens(64));
  for (int s = 0; s < static_cast<int>(profile.flow.segments.size()); ++s)
    for (const bool backward : {false, true})
      for (const std::int64_t tokens : {64, 256})
        profile.traces.push_back({model::SegmentIndex(s), backward, Tokens(tokens), Seconds(1), {}});
  Words got = words(profile.flow, scheduled(profile, {}).calls);
  const auto waits = std::ranges::count(got, "wait");
  EXPECT_GE(waits, 1);
  Words wanted = StepAsDrawn(3, 4, 2).alone();
  std::erase(wanted, "wait");
  const auto first_wait = std::ranges::find(got, "wait");
  ASSERT_NE(first_wait, got.end());
  EXPECT_EQ(*(first_wait - 1), "after(2) block 3") << "between forward and backward";
  EXPECT_EQ(*(first_wait + waits), "after'(2) block 3");
  std::erase(got, "wait");
  EXPECT_EQ(got, wanted);
}

TEST(Schedule, PlacementsAddRerunsAndWaitsAndChangeNothingElse) {
  const Profile profile = small_step();
  const Words drawn = StepAsDrawn(3, 4, 2).whole();
  for (const auto& [name, placement] : placements(profile)) {
    Schedule made = scheduled(profile, placement);
    const Words all = words(profile.flow, made.calls);
    EXPECT_EQ(std::ranges::any_of(made.calls, is_again),
              name.find("recompute") != std::string::npos || name == "offload")
        << name;
    EXPECT_EQ(std::ranges::count(all, "wait") > 0, name.starts_with("streamed") || name == "paged") << name;
    std::erase_if(made.calls, is_again);
    Words rest = words(profile.flow, made.calls);
    std::erase(rest, "wait");
    EXPECT_EQ(rest, drawn) << name;
  }
}

TEST(Schedule, WhatIsComputedAgainIsWrittenOnceMoreBeforeBackwardReadsItAndNothingElseIs) {
  const Profile profile = small_step(4);
  const std::vector<Unit> all = units(profile, -1);
  for (int trial = 0; trial < 40; ++trial) {
    Placement placement;
    std::set<std::string> again;  // tensors
    for (std::size_t u = 0; u < all.size(); ++u) {
      const Unit& unit = all[u];
      if (!unit.segment.exists()) continue;
      // Of core attention all or none, since this profile has no shorter ones that fit every block size.
      const int blocks = unit.whole() ? 4 * (trial >> u % 3 & 1) : (trial * 7 + static_cast<int>(u) * 3) % 5;
      add_unit(placement, profile, unit, blocks, 0, -1);
      for (const model::ClassIndex cls : unit.classes)
        for (int b = 0; b < blocks; ++b)
          for (int g = 0; g < (item(profile.flow.classes, cls).grouped ? 2 : 1); ++g)
            again.insert(tensor_word(profile.flow, cls, plain(unit.layer), b, g));
    }
    std::map<std::string, int> writes;
    for (const Call& call : scheduled(profile, placement).calls) {
      const Touched uses = touched(profile.flow, call);
      for (const std::string& tensor : uses.reads) {
        if (call.phase != Phase::backward || !again.contains(tensor)) continue;
        EXPECT_EQ(writes[tensor], 2) << word(profile.flow, call) << " reads " << tensor << ", trial " << trial;
      }
      for (const std::string& tensor : uses.writes) ++writes[tensor];
      if (is_again(call)) {
        const bool needed =
            std::ranges::any_of(uses.writes, [&](const auto& tensor) { return again.contains(tensor); });
        EXPECT_TRUE(needed) << word(profile.flow, call);
      }
    }
    for (const std::string& tensor : again) EXPECT_EQ(writes[tensor], 2) << tensor << ", trial " << trial;
  }
}

TEST(Schedule, PassesCoverTheCallsAndHaveATurnForEachBlock) {
  const Profile profile = small_step();
  for (const auto& [name, placement] : placements(profile)) {
    const Schedule made = scheduled(profile, placement);
    int next = 0;
    for (std::size_t p = 0; p < made.passes.size(); ++p) {
      const Pass& pass = made.passes[p];
      EXPECT_EQ(plain(pass.begin), next) << name;
      ASSERT_LT(plain(pass.begin), plain(pass.end)) << name;
      next = plain(pass.end);
      std::set<int> blocks;
      int waits = 0, core = 0;
      for (int k = plain(pass.begin); k < plain(pass.end); ++k) {
        const Call& call = item(made.calls, k);
        const model::Stage stage = item(profile.flow.segments, call.segment).stage;
        EXPECT_EQ(pass_of(made, decltype(pass.begin)(k)), static_cast<int>(p));
        waits += stage == model::Stage::wait ? 1 : 0;
        core += stage == model::Stage::core ? 1 : 0;
        if (stage != model::Stage::core && plain(call.block) >= 0) blocks.insert(plain(call.block));
      }
      EXPECT_EQ(core, pass.core ? 1 : 0) << name << ": a core pass is one call";
      EXPECT_TRUE(waits == 0 || waits == 2) << name;
      if (!blocks.empty() && name != "recompute" && name != "offload") {
        EXPECT_EQ(blocks.size(), 4U) << name;
        EXPECT_EQ(pass.iterations.size(), 4U) << name;
      }
    }
    EXPECT_EQ(next, static_cast<int>(made.calls.size())) << name;
  }
}

TEST(Schedule, EarlyUpdatesComeInThePassBehindTheLastGradient) {
  const Profile profile = small_step();
  const Schedule made = scheduled(profile, {}, true);
  const Words order = words(profile.flow, made.calls);
  Words late = words(profile.flow, scheduled(profile, {}).calls), early = order;
  const auto without_updates = [](Words& from) {
    std::erase_if(from, [](const std::string& one) { return one.starts_with("update"); });
    return from;
  };
  EXPECT_EQ(without_updates(early), without_updates(late));
  const auto place = [&](const std::string& what) {
    const auto found = std::ranges::find(order, what);
    EXPECT_NE(found, order.end()) << what;
    return static_cast<int>(found - order.begin());
  };
  for (int l = 0; l < 3; ++l)
    for (const auto& [update, last] : {std::pair("update.before", fmt::format("attn_in'({}) block 0", l)),
                                       {"update.after", fmt::format("attn_out'({}) block {}", l, l == 2 ? 3 : 0)}}) {
      const auto pass_at = [&](int call) { return pass_of(made, decltype(made.passes[0].begin)(call)); };
      EXPECT_EQ(pass_at(place(fmt::format("{}({})", update, l))), pass_at(place(last)) + 1) << update << ", " << l;
    }
}

}  // namespace
}  // namespace memo::planner
