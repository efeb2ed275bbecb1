// When tensors are on the device, against what the calls read and write.
#include "memo/planner/residency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>

#include "tests/planner/step_words.h"

namespace memo::planner {
namespace {

struct Made {
  Pace pace;
  Schedule schedule;
  Residencies residencies;
  std::map<std::string, std::vector<const Stay*>> stays;  // of a tensor, by use
  std::map<std::string, std::vector<int>> reads, writes;  // calls
};

std::unique_ptr<Made> make(const Profile& profile, const Placement& placement, const Pace& pace) {
  auto made = std::make_unique<Made>();
  made->pace = pace;
  const plan::Instances index(profile.flow);
  const PlacementMap places(profile.flow, placement.classes);
  made->schedule = schedule(profile, places, pace.early_updates);
  made->residencies = residencies(profile, index, places, made->schedule, pace);
  for (const Stay& stay : made->residencies.stays)
    made->stays[tensor_word(profile.flow, index.tensor(stay.tensor))].push_back(&stay);
  for (auto& [tensor, stays] : made->stays) std::ranges::sort(stays, {}, &Stay::first_use);
  for (std::size_t k = 0; k < made->schedule.calls.size(); ++k) {
    const Touched uses = touched(profile.flow, item(made->schedule.calls, static_cast<int>(k)));
    for (const std::string& tensor : uses.reads) made->reads[tensor].push_back(static_cast<int>(k));
    for (const std::string& tensor : uses.writes) made->writes[tensor].push_back(static_cast<int>(k));
  }
  return made;
}

bool lasts(const std::string& tensor) {
  return tensor.starts_with("weights") || tensor.starts_with("gradients") || tensor.starts_with("optimizer");
}

// Every placement at every pace.
template <class F>
void for_each_plan(const F& check) {
  const Profile profile = small_step();
  for (const auto& [name, placement] : placements(profile))
    for (const Pace& pace : {Pace{1}, Pace{2}, Pace{2, true}, Pace{2, false, true}}) {
      SCOPED_TRACE(testing::Message() << name << ", " << pace.slots << " slots, relaxed " << pace.relaxed << ", early "
                                      << pace.early_updates);
      check(profile, *make(profile, placement, pace), name);
    }
}

TEST(Residency, WhatACallTouchesIsThereWhileItRuns) {
  for_each_plan([](const Profile&, const Made& made, const std::string&) {
    for (const auto* uses : {&made.reads, &made.writes})
      for (const auto& [tensor, calls] : *uses) {
        ASSERT_TRUE(made.stays.contains(tensor)) << tensor;
        for (const int call : calls) {
          const auto& stays = made.stays.at(tensor);
          const auto here = std::ranges::count_if(
              stays, [&](const Stay* stay) { return plain(stay->begin) <= call && call < plain(stay->end); });
          // Where copies may overlap the pass before, a content may arrive anew while it is still there.
          EXPECT_GE(here, 1) << tensor << " at call " << call;
          EXPECT_LE(here, made.pace.relaxed ? 2 : 1) << tensor << " at call " << call;
        }
      }
  });
}

TEST(Residency, AStayThatIsNotFetchedBeginsWithTheCallThatWritesItsTensor) {
  for_each_plan([](const Profile&, const Made& made, const std::string&) {
    for (const auto& [tensor, stays] : made.stays) {
      if (lasts(tensor)) continue;  // there before the step
      ASSERT_TRUE(made.writes.contains(tensor)) << tensor << " is on the device, and nobody writes it";
      for (const Stay* stay : stays) {
        if (stay->fetched) continue;
        EXPECT_THAT(made.writes.at(tensor), testing::Contains(plain(stay->begin))) << tensor;
      }
      EXPECT_EQ(plain(stays.front()->begin), made.writes.at(tensor).front()) << tensor;
      EXPECT_FALSE(stays.front()->fetched) << tensor;
    }
  });
}

TEST(Residency, AStayEndsBehindItsLastUseUnlessItIsBeingWrittenOut) {
  for_each_plan([](const Profile&, const Made& made, const std::string&) {
    for (const auto& [tensor, stays] : made.stays) {
      if (lasts(tensor)) continue;
      for (std::size_t i = 0; i < stays.size(); ++i) {
        const Stay* stay = stays[i];
        const int next = i + 1 < stays.size() ? plain(stays[i + 1]->first_use) : INT_MAX;
        int last = INT_MIN;
        for (const auto* uses : {&made.reads, &made.writes})
          if (const auto found = uses->find(tensor); found != uses->end())
            for (const int call : found->second)
              if (plain(stay->first_use) <= call && call < next) last = std::max(last, call);
        const int end = !stay->write_at.exists() ? last + 1 : std::max(last + 1, plain(stay->write_before));
        EXPECT_EQ(plain(stay->end), end) << tensor;
      }
    }
  });
}

TEST(Residency, StaysOfATensorFollowOneAnother) {
  for_each_plan([](const Profile&, const Made& made, const std::string&) {
    for (const auto& [tensor, stays] : made.stays)
      for (std::size_t i = 0; i + 1 < stays.size(); ++i) {
        if (made.pace.relaxed && stays[i + 1]->fetched) continue;  // which may arrive before
        EXPECT_LE(plain(stays[i]->end), plain(stays[i + 1]->begin)) << tensor;
      }
  });
}

TEST(Residency, WhatIsFetchedWasWrittenOutBeforeAndArrivesBeforeItsUse) {
  for_each_plan([](const Profile&, const Made& made, const std::string&) {
    for (const auto& [tensor, stays] : made.stays) {
      if (lasts(tensor)) continue;
      const Stay* out = nullptr;  // the latest stay whose content is on the tier
      for (const Stay* stay : stays) {
        if (stay->fetched) {
          ASSERT_NE(out, nullptr) << tensor;
          EXPECT_EQ(stay->life, out->life) << tensor;
          EXPECT_LE(plain(out->write_before), plain(stay->begin)) << tensor;
          EXPECT_LT(plain(stay->begin), plain(stay->first_use)) << tensor << ": a copy takes a boundary";
        }
        if (!stay->write_at.exists()) continue;
        EXPECT_FALSE(stay->fetched) << tensor << ": it is on the tier already";
        EXPECT_GT(plain(stay->write_at), made.writes.at(tensor).front()) << tensor;
        EXPECT_LT(plain(stay->write_at), plain(stay->write_before)) << tensor;
        EXPECT_LE(plain(stay->write_before), plain(stay->end)) << tensor;
        for (const int call : made.writes.at(tensor))
          EXPECT_FALSE(plain(stay->write_at) <= call && call < plain(stay->end)) << tensor << " changes under its copy";
        out = stay;
      }
    }
  });
}

TEST(Residency, KeptTensorsHaveOneStayAndSwappedOnesAreAwayBetweenForwardAndBackward) {
  for_each_plan([](const Profile& profile, const Made& made, const std::string& name) {
    if (name == "resident") {
      for (const auto& [tensor, stays] : made.stays) EXPECT_EQ(stays.size(), 1U) << tensor;
      return;
    }
    if (name != "swapped") return;
    // Of the first layers: all that backward reads of what forward wrote, and that a tier takes.
    int away = 0;
    for (const Call& call : made.schedule.calls) {
      if (call.phase != Phase::backward || plain(call.layer) != 0) continue;
      for (const std::string& tensor : touched(profile.flow, call).reads) {
        if (!tensor.starts_with("x(0)") && !tensor.starts_with("qkv(0)") && !tensor.starts_with("h(0)")) continue;
        const auto& stays = made.stays.at(tensor);
        ASSERT_EQ(stays.size(), 2U) << tensor;
        EXPECT_LT(plain(stays[0]->end), plain(stays[1]->begin)) << tensor;
        ++away;
      }
    }
    EXPECT_GE(away, 4 + 2 * 4 + 4) << "x, qkv of two groups, h, of each block";
  });
}

TEST(Residency, StreamedTensorsStayNoLongerThanAPassAndItsCopies) {
  for_each_plan([](const Profile&, const Made& made, const std::string& name) {
    if (name != "streamed") return;
    for (const auto& [tensor, stays] : made.stays) {
      if (!tensor.starts_with("x(") && !tensor.starts_with("d(")) continue;
      for (const Stay* stay : stays)
        EXPECT_EQ(pass_of(made.schedule, stay->first_use), pass_of(made.schedule, stay->last_use)) << tensor;
    }
  });
}

TEST(Residency, RingsHoldEveryStayOnce) {
  for_each_plan([](const Profile&, const Made& made, const std::string&) {
    std::vector<int> times(made.residencies.stays.size(), 0);
    for (const Ring& ring : made.residencies.rings)
      for (std::size_t i = 0; i < ring.stays.size(); ++i) {
        ++times.at(static_cast<std::size_t>(plain(ring.stays[i])));
        if (i == 0) continue;
        EXPECT_LE(plain(item(made.residencies.stays, ring.stays[i - 1]).begin),
                  plain(item(made.residencies.stays, ring.stays[i]).begin));
      }
    EXPECT_THAT(times, testing::Each(1));
  });
}

}  // namespace
}  // namespace memo::planner
