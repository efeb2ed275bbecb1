// Check mode: real plans run clean and give the same bits; whatever is taken out of their order is found, told from a
// brute-force account of who comes before whom.
#include "memo/exec/checked_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <set>

#include "memo/exec/cpu_copies.h"
#include "memo/exec/names.h"
#include "tests/exec/fake_compute.h"
#include "tests/exec/fake_tier.h"
#include "tests/exec/small_plans.h"

namespace memo::exec {
namespace {

using plan::Direction;
using testing::HasSubstr;

// Copies at `start`. What a check finds must not depend on what goes wrong.
class ImmediateCopies : public CopyEngine {
 public:
  explicit ImmediateCopies(TierStore& tier) : tier_(tier) {}
  Ticket start(const CopyRequest& r, int) override {
    (void)(r.direction == Direction::out ? tier_.write(r.tier_offset.value(), r.device, r.bytes.value())
                                         : tier_.read(r.tier_offset.value(), r.device, r.bytes.value()));
    return ticket_++;
  }
  Status wait(Ticket) override { return {}; }
  Status drain() override { return {}; }
  [[nodiscard]] double now() const override { return 0; }
  std::vector<Span> take_spans(Direction) override { return {}; }

 private:
  TierStore& tier_;
  Ticket ticket_ = 0;
};

// An executor that forgets: passes all on, but for the wait for one copy.
class Forgetful : public CopyEngine {
 public:
  Forgetful(CopyEngine& engine, int copy) : engine_(engine), copy_(copy) {}
  Ticket start(const CopyRequest& request, int index) override {
    const Ticket ticket = engine_.start(request, index);
    if (index == copy_) forgotten_ = ticket;
    return ticket;
  }
  Status wait(Ticket ticket) override { return ticket == forgotten_ ? Status() : engine_.wait(ticket); }
  Status drain() override { return engine_.drain(); }
  [[nodiscard]] double now() const override { return engine_.now(); }
  std::vector<Span> take_spans(Direction direction) override { return engine_.take_spans(direction); }

 private:
  CopyEngine& engine_;
  int copy_;
  Ticket forgotten_ = -1;
};

// As of a device that the host would wait for.
class DistantBytes : public ArenaBytes {
 public:
  Result<std::optional<Found>> found() override { return ++asked, ArenaBytes::found(); }
  [[nodiscard]] bool waits() const override { return true; }
  int asked = 0;
};

struct Outcome {
  Status status;
  std::uint64_t digest = 0;
  CheckReport report;
};

struct Setting {
  explicit Setting(const plan::Plan& plan, std::int64_t stride = 8)
      : plan(plan),
        arena(static_cast<std::size_t>(plan.program.arena.value())),
        tier(plan.program.tier_bytes.at(0).value()),
        compute(plan, arena.data(), stride) {
    EXPECT_TRUE(compute.initialise({&tier}));
  }
  // `forgotten`: the copy whose wait the executor forgets, -1: none.
  Outcome checked(CopyEngine& engine, int forgotten = -1) {
    ArenaBytes here;
    return checked(engine, here, forgotten);
  }
  Outcome checked(CopyEngine& engine, ArenaBytes& bytes, int forgotten = -1) {
    CheckedStep step(plan, arena.data(), compute, engine, bytes);
    Forgetful copies(step.copies(), forgotten);
    const auto ran =
        run_step(plan.program, arena.data(), step.compute(), copies, plan.program.calls.end_index(), plan.profile.flow);
    return {ran ? Status() : Status(tl::unexpected(ran.error())), compute.digest, step.report()};
  }

  const plan::Plan& plan;
  std::vector<std::byte> arena;
  FakeTier tier;
  FakeCompute compute;
};

TEST(CheckedStep, PlansRunCleanWithTheBitsOfAnUncheckedStep) {
  std::set<std::uint64_t> digests;
  for (const auto& [name, plan] : small_plans(3, 5)) {
    Setting plain(plan), checked(plan);
    std::fill(plain.arena.begin(), plain.arena.end(), std::byte{0x11});  // as whatever was there before
    EXPECT_TRUE(plain.compute.initialise({&plain.tier}));
    const auto engine = cpu_copy_engine({&checked.tier});
    checked.tier.delay(1, std::chrono::microseconds(200));
    ImmediateCopies copies(plain.tier);
    for (int step = 0; step < 2; ++step) {
      ASSERT_TRUE(run_step(plan.program, plain.arena.data(), plain.compute, copies)) << name;
      const Outcome outcome = checked.checked(*engine);
      ASSERT_TRUE(outcome.status) << name << ": " << outcome.status.error().message;
      EXPECT_EQ(outcome.digest, plain.compute.digest) << name;
      EXPECT_GT(outcome.report.accesses, static_cast<std::int64_t>(plan.program.calls.size()));
      EXPECT_EQ(outcome.report.conflicts == 0, plan.program.copies.empty()) << name;
      EXPECT_GT(outcome.report.poisoned, plan.program.arena);
    }
    digests.insert(plain.compute.digest);
  }
  EXPECT_EQ(digests.size(), 1u) << "placements change no bit";
}

// The oracle: who comes before whom, from the boundaries alone. Compute's work is a line: at boundary k slots change
// owners, then copies start, then call k runs. Copies of a direction are a line too; a copy is after what compute did
// before its start, and before what compute does after it waited for the copy or for a later one of its direction.
class Oracle {
 public:
  Oracle(const plan::Plan& plan, int forgotten) : flow_(plan.profile.flow), program_(plan.program) {
    collect_compute();
    const int copies = static_cast<int>(program_.copies.size());
    for (int i = 0; i < copies; ++i) {
      const plan::Copy& copy = program_.copies[at(i)];
      int known = never;  // the boundary after whose waits compute knows that the copy has ended
      for (int j = 0; j < copies; ++j) {
        const plan::Copy& other = program_.copies[at(j)];
        const bool later = std::pair(other.at, j) >= std::pair(copy.at, i);  // or the same: started no earlier
        if (other.direction == copy.direction && later && j != forgotten) known = std::min(known, other.before.value());
      }
      known_.push_back(known);
    }
  }

  // Names of the two of each race that has a copy in it.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> races() const {
    std::vector<std::pair<std::string, std::string>> found;
    const int copies = static_cast<int>(program_.copies.size());
    for (int i = 0; i < copies; ++i) {
      const plan::Copy& a = program_.copies[at(i)];
      const bool in = a.direction == Direction::in;
      for (const Work& work : compute_) {
        if (!(in || work.write) || !overlap(arena_range(i), work.begin, work.end)) continue;
        // Work at boundary k is before starts at k when it is a change of owners, after them when it is the call.
        const bool before = work.residency < 0 ? work.boundary < a.at.value() : work.boundary <= a.at.value();
        if (!before && known_[at(i)] > work.boundary)
          found.emplace_back(name_of_copy(flow_, program_, at(i)), name(work));
      }
      for (int j = i + 1; j < copies; ++j) {
        const plan::Copy& b = program_.copies[at(j)];
        if (a.direction == b.direction) continue;
        const auto [low, high] = tier_range(j);
        const auto [from, to] = arena_range(j);
        if (!overlap(arena_range(i), from, to) && !overlap(tier_range(i), low, high)) continue;
        if (known_[at(i)] > b.at.value() && known_[at(j)] > a.at.value())
          found.emplace_back(name_of_copy(flow_, program_, at(i)), name_of_copy(flow_, program_, at(j)));
      }
    }
    return found;
  }

 private:
  static constexpr int never = 1 << 30;
  struct Work {
    int residency;  // whose slot changes owners; -1: a call
    int boundary;
    bool write;
    std::int64_t begin, end;
  };
  [[nodiscard]] std::string name(const Work& work) const {
    if (work.residency < 0) return name_of_call(flow_, program_, plan::CallIndex(work.boundary));
    const plan::Residency& r = program_.residencies[plan::ResidencyIndex(work.residency)];
    return "the slot of " + name_of_tensor(flow_, program_.tensors[r.tensor]);
  }
  static bool overlap(std::pair<std::int64_t, std::int64_t> range, std::int64_t begin, std::int64_t end) {
    return range.first < end && begin < range.second;
  }
  [[nodiscard]] const plan::Residency& residency(int copy) const {
    return program_.residencies[program_.copies[at(copy)].residency];
  }
  [[nodiscard]] std::int64_t moved(int copy) const {
    return round_up(program_.tensors[residency(copy).tensor].bytes, 4096).value();
  }
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> arena_range(int copy) const {
    return {residency(copy).offset.value(), residency(copy).offset.value() + moved(copy)};
  }
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> tier_range(int copy) const {
    const std::int64_t offset = program_.copies[at(copy)].tier_offset.value();
    return {offset, offset + moved(copy)};
  }

  void collect_compute() {
    const auto add = [&](int residency, plan::Boundary boundary, bool write, Bytes begin, Bytes bytes) {
      compute_.push_back({residency, boundary.value(), write, begin.value(), (begin + bytes).value()});
    };
    for (const plan::ResidencyIndex i : program_.residencies.indices()) {
      const plan::Residency& r = program_.residencies[i];
      if (r.origin == plan::Origin::held) continue;
      for (const plan::Boundary k : {r.begin, r.end})
        add(i.value(), k, true, r.offset, program_.tensors[r.tensor].bytes);
    }
    const plan::Instances instances(flow_);
    const plan::Places places(instances, program_);
    for (const plan::CallIndex k : program_.calls.indices()) {
      const plan::Call& call = program_.calls[k];
      add(-1, k, true, call.workspace, program_.transients[call.trace].bytes);
      const plan::Operands operands = plan::operands(flow_, instances, call);
      for (const bool write : {false, true})
        for (const plan::Operand& operand : write ? operands.writes : operands.reads) {
          Bytes bytes(0);
          plan::Tensor tensor = instances.tensor(operand.tensor);
          for (int b = 0; b < operand.blocks; ++b) bytes += flow_.bytes_of(tensor.cls, tensor.block + b);
          add(-1, k, write, places.of(operand.tensor, k).offset, bytes);
        }
    }
  }

  const model::Dataflow& flow_;
  const plan::Program& program_;
  std::vector<Work> compute_;
  std::vector<int> known_;
};

constexpr int every = 3;  // of so many copies one has its order broken: enough, and quick

// Checks a step with something taken out of its order. True when there was a race to find.
bool expect_found(const plan::Plan& plan, int forgotten, const std::string& planted) {
  const auto races = Oracle(plan, forgotten).races();
  Setting setting(plan, 4096);
  ImmediateCopies engine(setting.tier);
  const Outcome outcome = setting.checked(engine, forgotten);
  if (races.empty()) {
    EXPECT_TRUE(outcome.status) << planted << ": " << outcome.status.error().message;
    return false;
  }
  if (outcome.status) {
    ADD_FAILURE() << planted << ": " << races[0].first << " and " << races[0].second << " race, and nobody says so";
    return true;
  }
  const std::string& message = outcome.status.error().message;
  EXPECT_EQ(outcome.status.error().kind, ErrorKind::run_time);
  EXPECT_TRUE(std::ranges::any_of(races,
                                  [&](const auto& race) {
                                    return message.find(race.first) != std::string::npos &&
                                           message.find(race.second) != std::string::npos;
                                  }))
      << planted << ": " << message;
  return true;
}

TEST(CheckedStep, AWaitThatTheExecutorForgetsIsFoundWheneverItMatters) {
  int races = 0, harmless = 0;
  for (const auto& [name, plan] : small_plans(2, 2))
    for (int i = 0; i < static_cast<int>(plan.program.copies.size()); i += every)
      ++(expect_found(plan, i, name + ", no wait for " + std::to_string(i)) ? races : harmless);
  RecordProperty("planted_and_found", races);
  EXPECT_GT(races, 50);
  EXPECT_GT(harmless, 0) << "a wait for a later copy of the direction covers some";
}

TEST(CheckedStep, ACopyThatThePlanStartsTooEarlyOrAwaitsTooLateIsFound) {
  int races = 0;
  for (auto [name, plan] : small_plans(2, 2)) {
    const plan::Boundary calls = plan.program.calls.end_index();
    for (std::size_t i = 0; i < plan.program.copies.size(); i += every) {
      plan::Copy& copy = plan.program.copies[i];
      const plan::Copy planned = copy;
      copy.before = std::min(calls, planned.before + 3);
      if (expect_found(plan, -1, name + ", late wait for " + std::to_string(i))) ++races;
      copy.before = planned.before;
      if (copy.direction == Direction::out) copy.at = std::max(plan::Boundary(0), planned.at - 2);
      if (expect_found(plan, -1, name + ", early start of " + std::to_string(i))) ++races;
      copy = planned;
    }
  }
  RecordProperty("planted_and_found", races);
  EXPECT_GT(races, 50);
}

TEST(CheckedStep, AMessageNamesBothAccessesWithTensorAndStream) {
  const auto plans = small_plans(2, 2);
  const plan::Plan& plan = std::ranges::find(plans, "swapped with 1 slots", &NamedPlan::name)->plan;
  const auto fetch = std::ranges::find(plan.program.copies, Direction::in, &plan::Copy::direction);
  Setting setting(plan);
  ImmediateCopies engine(setting.tier);
  const Outcome outcome = setting.checked(engine, static_cast<int>(fetch - plan.program.copies.begin()));
  ASSERT_FALSE(outcome.status);
  EXPECT_THAT(outcome.status.error().message,
              testing::ContainsRegex(R"(check: \[in\] copy [0-9]+ \(h, layer 0, block 1, in from tier 0\) writes and )"
                                     R"(\[compute\] call [0-9]+ \(backward of mlp_out, layer 0, block 1\) reads h, )"
                                     R"(layer 0, block 1 race for bytes [0-9]+ to [0-9]+ of the arena)"));
}

TEST(CheckedStep, SeveralSequencesOfAStepRunClean) {
  for (const auto& [name, plan] : small_plans(2, 2)) {
    if (plan::updates_early(plan.profile.flow, plan.program)) continue;  // only with one sequence a step
    Setting setting(plan);
    const auto engine = cpu_copy_engine({&setting.tier});
    ArenaBytes bytes;
    CheckedStep step(plan, setting.arena.data(), setting.compute, *engine, bytes);
    const plan::Boundary update = plan::update_begin(plan.profile.flow, plan.program);
    for (const plan::Boundary end : {update, update, plan.program.calls.end_index()}) {
      const auto ran = run_step(plan.program, setting.arena.data(), step.compute(), step.copies(), end);
      EXPECT_TRUE(ran) << name << ": " << ran.error().message;
    }
  }
}

// What check mode says, without the call or copy that the error came from.
std::string check_of(const Outcome& outcome) {
  const std::string& message = outcome.status.error().message;
  return message.substr(message.find("check: "));
}

TEST(CheckedStep, WhatTheHostWouldWaitForIsAskedBeforeParametersChangeAndAtTheEndsOfForwardAndTheStep) {
  for (const auto& [name, plan] : small_plans(3, 5)) {
    Setting setting(plan);
    ImmediateCopies engine(setting.tier);
    DistantBytes bytes;
    ASSERT_TRUE(setting.checked(engine, bytes).status) << name;
    const auto changes = std::ranges::count_if(plan.program.calls, [&flow = plan.profile.flow](const plan::Call& call) {
      const model::Stage stage = flow.segments[call.segment].stage;
      return stage == model::Stage::update || stage == model::Stage::optimizer;
    });
    EXPECT_GT(changes, 0);
    EXPECT_LE(bytes.asked, changes + 2) << name;
  }
}

TEST(CheckedStep, ACopyThatIsNotMadeLeavesItsReaderWithoutContent) {
  for (auto [name, plan] : small_plans(2, 2)) {
    const plan::Program whole = plan.program;
    for (std::size_t i = 0; i < whole.copies.size(); i += 5) {
      if (whole.copies[i].direction == Direction::out) continue;
      plan.program.copies.erase(plan.program.copies.begin() + static_cast<std::ptrdiff_t>(i));
      Setting setting(plan);
      Setting distant(plan);
      ImmediateCopies engine(setting.tier), distant_engine(distant.tier);
      const Outcome outcome = setting.checked(engine);
      DistantBytes bytes;
      const Outcome later = distant.checked(distant_engine, bytes);
      plan.program = whole;
      ASSERT_FALSE(outcome.status) << name << ", copy " << i;
      ASSERT_FALSE(later.status) << name << ", copy " << i;
      EXPECT_EQ(check_of(later), check_of(outcome)) << name << ", copy " << i;
      const plan::Residency& r = whole.residencies[whole.copies[i].residency];
      EXPECT_THAT(
          outcome.status.error().message,
          HasSubstr("reads " + name_of_tensor(plan.profile.flow, whole.tensors[r.tensor]) + " without content"));
    }
  }
}

}  // namespace
}  // namespace memo::exec
