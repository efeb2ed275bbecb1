// A plan made ready and played: what is refused, what is opened and for how long, and that loss, gradients and updates
// are those of the model written plainly, by every plan.
#include "memo/libtorch/run/session.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/libtorch/parity_step.h"
#include "tests/libtorch/plain_model.h"
#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

PlainModel plain_model(ModelState& state, const model::Shape& shape) {
  Tensors masters;
  for (std::size_t i = 0; i < state.specs().size(); ++i) {
    EXPECT_TRUE(state.bring(i));
    masters.push_back(state.masters()[i].clone());
  }
  return {shape, state.specs(), masters};
}

std::vector<at::Tensor> windows_of(const std::vector<Sample>& samples) {
  std::vector<at::Tensor> windows;
  for (const Sample& sample : samples)
    windows.push_back(at::cat({sample.tokens, sample.targets.narrow(0, sample.targets.size(0) - 1, 1)}));
  return windows;
}

class SessionTest : public testing::Test {
 protected:
  std::unique_ptr<Session> open(const plan::Plan& plan, const Guards& guards = {}) {
    auto session = Session::open(plan, shape_of(job), job, device, guards);
    EXPECT_TRUE(session) << (session ? "" : session.error().message);
    EXPECT_TRUE((*session)->state().initialise(1));
    return *std::move(session);
  }
  static StepResult step(Session& session, const std::vector<Sample>& samples, std::int64_t update, double lr,
                         Watch watch = Watch::nothing) {
    const auto result = session.step(samples, update, lr, watch);
    EXPECT_TRUE(result) << (result ? "" : result.error().message);
    return *result;
  }
  // After some steps with updates: losses and norms, and all that the state holds.
  struct Course {
    std::vector<double> numbers;
    std::uint64_t gradients = 0;
    Tensors masters;
  };
  Course course(Session& session, int steps) const {
    Course result;
    for (int k = 1; k <= steps; ++k) {
      const StepResult played = step(session, {tiny_sample(job, static_cast<std::uint64_t>(k))}, k, 0.01);
      result.numbers.push_back(played.loss);
      result.numbers.push_back(played.gradient_norm);
    }
    result.gradients = session.state().gradient_digest().value();
    for (std::size_t i = 0; i < session.state().specs().size(); ++i) {
      EXPECT_TRUE(session.state().bring(i));
      result.masters.push_back(session.state().masters()[i].clone());
    }
    return result;
  }
  static void expect_same(const Course& a, const Course& b) {
    EXPECT_EQ(a.numbers, b.numbers);
    EXPECT_EQ(a.gradients, b.gradients);
    for (std::size_t i = 0; i < b.masters.size(); ++i) EXPECT_TRUE(at::equal(a.masters[i], b.masters[i])) << i;
  }

  const OneThread one_thread;
  job::Job job = tiny_job();
  MemoryDevice device;
};

TEST_F(SessionTest, LossAndGradientsOfAStepAreThoseOfPlainAutogradByEveryPlan) {
  const plan::Profile profile = tiny_profile(job);
  const std::vector<Sample> samples{tiny_sample(job, 2)};
  std::optional<PlainModel::Outcome> wanted;
  for (const std::string& name : tiny_plan_names) {
    const auto session = open(tiny_plan(profile, name));
    if (!wanted) wanted = plain_model(session->state(), shape_of(job))(windows_of(samples));
    const StepResult result = step(*session, samples, 1, 0.0);
    EXPECT_NEAR(result.loss, wanted->loss, 1e-5 * wanted->loss) << name;
    EXPECT_NEAR(result.gradient_norm, wanted->norm, 1e-5 * wanted->norm) << name;
    EXPECT_TRUE(result.finite);
    ModelState& state = session->state();
    for (std::size_t i = 0; i < state.specs().size(); ++i) {
      ASSERT_TRUE(state.bring(i));
      EXPECT_LT(relative_error(state.parameters()[i].gradient, wanted->gradients[i]), 1e-5)
          << name << ", " << state.specs()[i].name;
    }
    EXPECT_THAT(session->departures(), IsEmpty()) << name;
    EXPECT_EQ(session->departure_count(), 0) << name;
  }
}

TEST_F(SessionTest, SequencesOfAStepAddUpToTheirMean) {
  job.train.batch = 2;
  const plan::Profile profile = tiny_profile(job);
  const std::vector<Sample> samples{tiny_sample(job, 2), tiny_sample(job, 3)};
  std::optional<PlainModel::Outcome> plain;
  for (const std::string name : {"resident", "paged"}) {
    const auto session = open(tiny_plan(profile, name, 2));
    if (!plain) plain = plain_model(session->state(), shape_of(job))(windows_of(samples));
    const PlainModel::Outcome& wanted = *plain;
    for (int again = 0; again < 2; ++again) {  // the second step begins without the gradients of the first
      const StepResult result = step(*session, samples, 1, 0.0);
      EXPECT_NEAR(result.loss, wanted.loss, 1e-5 * wanted.loss) << name;
      EXPECT_NEAR(result.gradient_norm, wanted.norm, 1e-5 * wanted.norm) << name;
    }
    ModelState& state = session->state();
    for (std::size_t i = 0; i < state.specs().size(); ++i) {
      ASSERT_TRUE(state.bring(i));
      EXPECT_LT(relative_error(state.parameters()[i].gradient, wanted.gradients[i]), 1e-5)
          << name << ", " << state.specs()[i].name;
    }
  }
}

TEST_F(SessionTest, StepsHaveTheSameBitsByEveryPlanAndWatched) {
  for (const job::DType dtype : {job::DType::float32, job::DType::bfloat16}) {
    job.model.dtype = dtype;
    job.train.clip = 0.5;
    const plan::Profile profile = tiny_profile(job);
    std::optional<Course> first;
    for (const std::string& name : tiny_plan_names) {
      if (dtype == job::DType::bfloat16 && name != "resident" && name != "paged") continue;
      SCOPED_TRACE(name);
      const auto session = open(tiny_plan(profile, name));
      const Course played = course(*session, 2);
      if (!first) first = played;
      expect_same(played, *first);
    }
    const auto session = open(tiny_plan(profile, "paged"));
    const StepResult watched = step(*session, {tiny_sample(job, 1)}, 1, 0.01, Watch::order);
    EXPECT_EQ(watched.loss, first->numbers[0]);
    EXPECT_EQ(watched.gradient_norm, first->numbers[1]);
    ASSERT_TRUE(watched.check);
    EXPECT_GT(watched.check->conflicts, 0);
  }
}

TEST_F(SessionTest, APlanThatDoesNotHoldIsRefusedInOneLineBeforeAnythingIsOpened) {
  const plan::Plan good = tiny_plan(tiny_profile(job), "swapped");
  std::vector<plan::Plan> bad(4, good);
  bad[0].program.arena = bad[0].program.arena - Bytes(4096);
  bad[1].program.calls.pop_back();
  bad[2].program.copies.pop_back();
  bad[3].program.tier_bytes[0] = Bytes(0);
  for (const plan::Plan& plan : bad) {
    const auto session = Session::open(plan, shape_of(job), job, device);
    ASSERT_FALSE(session);
    EXPECT_FALSE(session.error().message.empty());
    EXPECT_THAT(session.error().message, Not(HasSubstr("\n")));
  }
  EXPECT_EQ(device.mapped, Bytes(0));
  EXPECT_EQ(device.tiers_opened, 0);
}

TEST_F(SessionTest, APlanForAnotherModelIsRefused) {
  const plan::Plan plan = tiny_plan(tiny_profile(job), "resident");
  model::Shape other = shape_of(job);
  other.vocab = 97;
  const auto session = Session::open(plan, other, job, device);
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::bad_input);
  EXPECT_THAT(session.error().message, AllOf(HasSubstr("for another model"), HasSubstr("make a new plan")));
}

TEST_F(SessionTest, TheArenaAndTheTiersThatAPlanUsesAreThereWhileItLives) {
  const plan::Profile profile = tiny_profile(job);
  for (const std::string name : {"resident", "swapped"}) {
    const plan::Plan plan = tiny_plan(profile, name);
    device.tiers_opened = 0;
    auto session = open(plan);
    EXPECT_EQ(device.mapped, plan.program.arena) << name;
    EXPECT_EQ(device.tiers_opened, name == "swapped" ? 1 : 0) << name;
    EXPECT_EQ(device.open_tiers, device.tiers_opened);
    step(*session, {tiny_sample(job, 1)}, 1, 0.01);
    EXPECT_GT(session->device_peak(), plan.program.arena * 9 / 10) << "a step touches what is planned";
    EXPECT_LE(session->device_peak(), plan.program.arena + Bytes(1 << 16)) << "and hardly anything else";
    session.reset();
    EXPECT_EQ(device.open_tiers, 0) << name;
  }
}

TEST_F(SessionTest, ATierThatCannotBeHadIsRefusedInOneLine) {
  const auto real = cpu_device();  // has no host tier
  const auto session = Session::open(tiny_plan(tiny_profile(job), "swapped"), shape_of(job), job, *real);
  ASSERT_FALSE(session);
  EXPECT_THAT(session.error().message, AllOf(HasSubstr("memory.host_limit"), Not(HasSubstr("\n"))));
}

TEST_F(SessionTest, AStepWhoseTierFailedMayBePlayedAgainWithTheSameBits) {
  for (const auto& [name, rate] : {std::pair("swapped", 0.05), {"paged", 0.01}}) {
    const plan::Plan plan = tiny_plan(tiny_profile(job), name);
    const Course wanted = course(*open(plan), 2);
    auto session = Session::open(plan, shape_of(job), job, device,
                                 {.faults = exec::Faults{.seed = 3, .rate = rate, .kinds = {exec::Fault::io_error}}});
    ASSERT_TRUE(session);
    while (!(*session)->state().initialise(1)) {
    }
    int failures = 0, played = 0;
    Course got;
    for (std::int64_t k = 1; k <= 2;) {
      const auto result = (*session)->step({tiny_sample(job, static_cast<std::uint64_t>(k))}, k, 0.01);
      ASSERT_LT(++played, 200);
      if (!result) {
        ++failures;
        EXPECT_THAT(result.error().message, AllOf(HasSubstr("Input/output error"), Not(HasSubstr("\n"))));
        EXPECT_TRUE((*session)->tier_failed());
        if ((*session)->unchanged()) continue;
        // Updates had begun: a run would go on from a checkpoint. Here, from the start.
        while (!(*session)->state().initialise(1)) {
        }
        got.numbers.clear();
        k = 1;
        continue;
      }
      EXPECT_FALSE((*session)->tier_failed());
      got.numbers.push_back(result->loss);
      got.numbers.push_back(result->gradient_norm);
      ++k;
    }
    EXPECT_GT(failures, 0) << name << ": no fault was met";
    EXPECT_EQ(got.numbers, wanted.numbers) << name;
  }
}

}  // namespace
}  // namespace memo::libtorch
