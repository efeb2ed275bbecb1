// Calls that allocate as they were recorded run in the arena; one that does not is named, served by the heap, its
// result moved to where the plan has it, and counted. No bit changes.
#include "memo/libtorch/run/runner.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "memo/exec/executor.h"
#include "tests/libtorch/parity_step.h"
#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using model::BlockIndex;
using model::SegmentIndex;
using model::Stage;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

enum class Departs {
  nowhere,
  by_another_size,   // the first transient is larger
  by_one_more,       // there is a transient that the plan does not know
  by_one_less,       // the last transient is not allocated
  in_an_address,     // the first transient is alive when the second gets the same address
  past_the_call,     // the last transient is alive when the call has ended
  in_where_it_lies,  // the result is another allocation than the planned one
  by_an_exception,
  by_a_nan,
};

// A decoder's calls, and around those of one segment three transients of this test's own: 640 bytes, then 1280 in their
// place, then, behind the call's own, 320.
class Restless final : public Segments {
 public:
  Restless(DecoderSegments& inner, SegmentIndex segment) : inner_(inner), segment_(segment) {}

  std::vector<at::Tensor> forward(SegmentIndex segment, const Where& where, const std::vector<at::Tensor>& reads,
                                  Graph* graph) override {
    const bool is_rerun = graph == nullptr;
    return around(segment, where, is_rerun == of_reruns, [&] { return inner_.forward(segment, where, reads, graph); });
  }
  std::vector<at::Tensor> backward(SegmentIndex segment, const Where& where, const std::vector<at::Tensor>& reads,
                                   Graph& graph) override {
    return around(segment, where, false, [&] { return inner_.backward(segment, where, reads, graph); });
  }
  [[nodiscard]] double loss() const override { return inner_.loss(); }

  Departs departs = Departs::nowhere;
  bool of_reruns = false;               // which calls of layer 0 depart: the reruns, else the forward ones
  BlockIndex block{1};                  // of the call that departs; none: every one
  std::vector<bool> in_planned_memory;  // of the transients of the call that departs, in order

 private:
  template <class F>
  std::vector<at::Tensor> around(SegmentIndex segment, const Where& where, bool may_depart, const F& work) {
    if (segment != segment_) return work();
    const bool here = may_depart && where.layer == model::LayerIndex(0) && (!block.exists() || where.block == block);
    const Departs how = here ? departs : Departs::nowhere;
    const auto transient = [&](std::int64_t bytes) {
      at::Tensor made = at::empty({bytes}, at::kByte);
      if (here) in_planned_memory.push_back(in_arena(made.const_data_ptr()));
      return made;
    };
    at::Tensor first = transient(how == Departs::by_another_size ? 704 : 640);
    if (how != Departs::in_an_address) first.reset();
    transient(1280);
    first.reset();
    if (how == Departs::by_one_more) transient(960);
    std::vector<at::Tensor> results = work();
    if (how != Departs::by_one_less) {
      at::Tensor last = transient(320);
      if (how == Departs::past_the_call) kept_ = last;
    }
    if (how == Departs::in_where_it_lies) {
      const at::Tensor elsewhere = results[0].clone();
      results[0].fill_(NAN);  // at the planned address
      results[0] = elsewhere;
    }
    if (how == Departs::by_an_exception) throw std::runtime_error("out of luck\nat the second line");
    if (how == Departs::by_a_nan) results[0].select(0, 3).fill_(NAN);
    return results;
  }

  DecoderSegments& inner_;
  SegmentIndex segment_;
  at::Tensor kept_;
};

struct Outcome {
  double loss = 0;
  std::uint64_t gradients = 0;  // digest
  bool operator==(const Outcome&) const = default;
};

class RunnerTest : public testing::Test {
 protected:
  RunnerTest() {
    EXPECT_TRUE(model.state.initialise(1));
    DecoderSegments decoder(flow, model.decoder, [](const StateGroup&, bool) {});
    Restless segments(decoder, restless);
    profile = recorded_profile(job, segments, flow, model);
  }
  plan::Plan plan(const std::string& name) const { return tiny_plan(profile, name); }

  // Of a plan ready to play, whose calls of mlp_in may depart.
  struct Player {
    Player(RunnerTest& test, const plan::Plan& plan)
        : plan(plan),
          arena(*Arena::map(plan.program.arena)),
          state(test.model.state),
          decoder(plan.profile.flow, test.model.decoder, [](const StateGroup&, bool) {}),
          segments(decoder, test.restless),
          runner(plan, arena.data(), segments, at::kFloat, &state, test.device) {
      for (const Bytes bytes : plan.program.tier_bytes) {
        tiers.push_back(*exec::host_tier(bytes));
        addresses.push_back(tiers.back().get());
      }
      engine = *test.device.copy_engine(addresses);
      decoder.loss_scale = 1.0 / static_cast<double>(target_count(test.sample));
    }
    Result<Outcome> step(const Sample& sample) {
      state.begin_step();
      decoder.loss_sum.reset();
      runner.begin_sequence(sample, true);
      MEMO_TRY(const auto report, exec::run_step(plan.program, arena.data(), runner, *engine,
                                                 plan.program.calls.end_index(), plan.profile.flow));
      MEMO_TRY(const std::uint64_t digest, state.gradient_digest());
      return Outcome{decoder.loss_sum.value() * decoder.loss_scale, digest};
    }
    const plan::Plan& plan;
    Arena arena;
    ModelState& state;
    DecoderSegments decoder;
    Restless segments;
    std::vector<std::unique_ptr<exec::TierStore>> tiers;
    std::vector<exec::TierStore*> addresses;
    std::unique_ptr<exec::CopyEngine> engine;
    Runner runner;
  };
  Outcome undisturbed(const plan::Plan& plan) {
    Player player(*this, plan);
    const auto outcome = player.step(sample);
    EXPECT_TRUE(outcome) << (outcome ? "" : outcome.error().message);
    EXPECT_THAT(player.runner.departures(), IsEmpty());
    return *outcome;
  }

  const job::Job job = tiny_job();
  const model::Shape shape = shape_of(job);
  const int groups = job.train.head_groups;
  const OneThread one_thread;
  MemoryDevice device;
  WholeModel model{shape, job::DType::float32, groups};
  const model::Dataflow flow = tiny_flow(job);
  const SegmentIndex restless = flow.find_segment(model::SegmentRole::mlp_in);
  const Sample sample = tiny_sample(job, 2);
  plan::Profile profile;
};

using Runners = RunnerTest;

TEST_F(Runners, EveryPlanGivesTheBitsOfEveryOtherAndTheNumbersOfNoPlan) {
  const Tensors values = [&] {
    Tensors copies;
    for (const Parameter& parameter : model.state.parameters()) copies.push_back(parameter.value.clone());
    return copies;
  }();
  const std::vector<Parameter> alone = with_gradients(model.state.specs(), values);
  const StepOutcome wanted = run_step(Decoder(shape, groups, alone), sample, job.train.block.value());
  const Outcome first = undisturbed(plan("resident"));
  for (const std::string& name : tiny_plan_names) {
    if (name == "paged") continue;  // its parameters lie elsewhere
    EXPECT_EQ(undisturbed(plan(name)), first) << name;
    for (std::size_t i = 0; i < alone.size(); ++i)
      EXPECT_LT(relative_error(model.state.parameters()[i].gradient, alone[i].gradient), 1e-6)
          << name << ", " << alone[i].name;
  }
  EXPECT_NEAR(first.loss, wanted.loss, 1e-9);
}

struct Case {
  Departs departs;
  std::vector<std::string> lines;  // behind "mlp_in (layer 0, block 1): "
  std::vector<bool> in_planned_memory;
};
void PrintTo(const Case& c, std::ostream* out) { *out << static_cast<int>(c.departs); }

class DepartingCall : public RunnerTest, public testing::WithParamInterface<Case> {};

TEST_P(DepartingCall, IsNamedServedByTheHeapCountedAndChangesNoBit) {
  const Case& wanted = GetParam();
  for (const bool again : {false, true}) {
    const plan::Plan plan = this->plan(again ? "recompute" : "resident");
    const Outcome right = undisturbed(plan);
    Player player(*this, plan);
    player.segments.departs = wanted.departs;
    player.segments.of_reruns = again;
    const auto outcome = player.step(sample);
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_EQ(*outcome, right);
    std::vector<std::string> lines;
    for (const std::string& line : wanted.lines)
      lines.push_back((again ? "mlp_in rerun (layer 0, block 1): " : "mlp_in (layer 0, block 1): ") + line);
    EXPECT_EQ(player.runner.departures(), lines);
    EXPECT_EQ(player.runner.departure_count(), static_cast<std::int64_t>(lines.size()));
    EXPECT_EQ(player.segments.in_planned_memory, wanted.in_planned_memory);
    player.segments.departs = Departs::nowhere;
    const auto later = player.step(sample);
    ASSERT_TRUE(later);
    EXPECT_EQ(*later, right);
    EXPECT_EQ(player.runner.departure_count(), static_cast<std::int64_t>(lines.size()))
        << "later steps go on as planned";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Runners, DepartingCall,
    testing::Values(Case{Departs::by_another_size,
                         {"allocation 0 of 704 bytes went to the heap: the plan has 640 bytes",
                          "allocation 1 of 1280 bytes went to the heap: the plan has 640 bytes",
                          "2 planned requests were not made"},
                         {false, false, true}},
                    Case{
                        Departs::by_one_more,
                        {"allocation 2 of 960 bytes went to the heap: the plan has 16384 bytes"},  // of the norm's rows
                        {true, true, false, true}},
                    Case{Departs::by_one_less, {"1 planned requests were not made"}, {true, true}},
                    Case{Departs::in_an_address,
                         {"allocation 1 of 1280 bytes went to the heap: its planned address is still in use",
                          "1 planned requests were not made"},
                         {true, false, true}},
                    Case{Departs::past_the_call,
                         {"allocation 4 of 320 bytes outlived its call: the plan has it as a transient"},
                         {true, true, true}},
                    Case{Departs::in_where_it_lies,
                         {"class h was not allocated at its planned address",
                          "allocation 5 of 49152 bytes went to the heap: the plan has no such request"},
                         {true, true, true}}));

TEST_F(Runners, ManyDeparturesAreAllCountedAndAFewKept) {
  const plan::Plan resident = plan("resident");
  Player player(*this, resident);
  player.segments.departs = Departs::by_one_less;
  player.segments.block = BlockIndex::none();  // in each of three blocks
  for (int step = 1; step <= 8; ++step) {
    ASSERT_TRUE(player.step(sample));
    EXPECT_EQ(player.runner.departure_count(), 3 * step);
  }
  EXPECT_THAT(player.runner.departures(), SizeIs(20));
}

TEST_F(Runners, ACallThatThrowsEndsTheStepInOneLineWithItsNameAndTheNextStepIsRight) {
  const plan::Plan streamed = plan("streamed");
  const Outcome right = undisturbed(streamed);
  Player player(*this, streamed);
  player.segments.departs = Departs::by_an_exception;
  const auto failed = player.step(sample);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, HasSubstr("mlp_in (layer 0, block 1): out of luck"));
  EXPECT_THAT(failed.error().message, testing::Not(HasSubstr("\n")));
  const std::exception_ptr thrown = player.runner.take_exception();
  ASSERT_TRUE(thrown);
  EXPECT_THROW(std::rethrow_exception(thrown), std::runtime_error);
  EXPECT_FALSE(player.runner.take_exception()) << "it is taken once";
  player.segments.departs = Departs::nowhere;
  const auto later = player.step(sample);
  ASSERT_TRUE(later) << later.error().message;
  EXPECT_EQ(*later, right);
}

TEST_F(Runners, TheFirstResultThatIsNotFiniteIsNamedWhenAskedFor) {
  const plan::Plan resident = plan("resident");
  Player player(*this, resident);
  player.segments.departs = Departs::by_a_nan;
  player.runner.look_for_not_finite(false);
  ASSERT_TRUE(player.step(sample));
  EXPECT_EQ(player.runner.not_finite(), "");
  player.runner.look_for_not_finite(true);
  ASSERT_TRUE(player.step(sample));
  EXPECT_EQ(player.runner.not_finite(), "'h' of mlp_in (layer 0, block 1)");
  player.segments.departs = Departs::nowhere;
  player.runner.look_for_not_finite(true);
  ASSERT_TRUE(player.step(sample));
  EXPECT_EQ(player.runner.not_finite(), "") << "asked anew";
}

}  // namespace
}  // namespace memo::libtorch
