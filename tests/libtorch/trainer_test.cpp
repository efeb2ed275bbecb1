// A training by a plan against the same training written plainly: losses, norms, learning rates, weights. And what a
// run refuses, saves, and goes on from.
#include "memo/libtorch/train/trainer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <random>

#include "memo/corpus/dataset.h"
#include "memo/libtorch/train/weights_io.h"
#include "memo/store/checkpoint_files.h"
#include "tests/base/file_size_limit.h"
#include "tests/libtorch/plain_model.h"
#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() {
    job.train.steps = 4;
    job.train.lr = 0.01;
    std::mt19937 random(1);
    std::string bytes;
    for (int i = 0; i < 2000; ++i) {
      tokens.push_back(random() % 2 == 0 ? i % 7 : static_cast<std::int64_t>(random() % 61));
      bytes += {static_cast<char>(tokens.back()), '\0'};
    }
    job.data.files = {folder.path() / "tokens.bin"};
    EXPECT_TRUE(write_atomically(job.data.files[0], bytes));
  }
  // A run in a folder of its own, of this name.
  Result<Summary> run(const std::string& name, const plan::Plan& plan, TrainRequest request = {}) {
    const auto data = corpus::Dataset::open(job.data, job.model.vocab);
    EXPECT_TRUE(data) << (data ? "" : data.error().message);
    request.out = folder.path() / name;
    request.on_step = [this, and_then = request.on_step](const StepLine& line) {
      lines.push_back(line);
      if (and_then) and_then(line);
    };
    request.on_note = [this](const std::string& line) { notes.push_back(line); };
    lines.clear();
    notes.clear();
    return train(job, plan, *data, device, request);
  }
  Summary must_run(const std::string& name, const plan::Plan& plan, const TrainRequest& request = {}) {
    auto summary = run(name, plan, request);
    EXPECT_TRUE(summary) << (summary ? "" : summary.error().message);
    return summary ? *summary : Summary();
  }
  plan::Plan plan(const std::string& name) const { return tiny_plan(tiny_profile(job), name, job.train.batch); }
  [[nodiscard]] std::vector<std::string> checkpoints(const std::string& name) const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path() / name))
      if (entry.is_directory()) result.push_back(entry.path().filename().string());
    std::ranges::sort(result);
    return result;
  }

  const OneThread one_thread;
  const TinyFolder folder;
  job::Job job = tiny_job();
  std::vector<std::int64_t> tokens;
  MemoryDevice device;
  std::vector<StepLine> lines;
  std::vector<std::string> notes;
};

TEST_F(TrainerTest, ARunIsTheTrainingThatIsWrittenPlainly) {
  job.train.batch = 2;
  job.train.clip = 0.3;  // less than the norms, so that it counts
  job.train.warmup_steps = 2;
  job.train.min_lr_ratio = 0.25;
  const Summary summary = must_run("run", plan("streamed"));
  EXPECT_EQ(summary.steps, 4);
  EXPECT_EQ(summary.departures, 0) << summary.first_departure;

  const model::Shape shape = shape_of(job);
  WholeModel first(shape, job::DType::float32, 1), last(shape, job::DType::float32, 1);
  ASSERT_TRUE(first.state.initialise(job.seed));
  PlainModel plain(shape, first.state.specs(), first.state.masters());
  std::vector<at::Tensor> m, v;
  for (const at::Tensor& value : plain.values) {
    m.push_back(at::zeros_like(value));
    v.push_back(at::zeros_like(value));
  }
  ASSERT_EQ(lines.size(), 4U);
  const std::int64_t context = job.train.context.value();
  for (int step = 1; step <= 4; ++step) {
    std::vector<at::Tensor> windows;
    for (int i = 0; i < 2; ++i) {
      const std::int64_t begin = corpus::sample_start(job.seed, 2 * (step - 1) + i, context, 2000);
      windows.push_back(at::tensor(
          std::vector<std::int64_t>(tokens.begin() + begin, tokens.begin() + begin + context + 1), at::kLong));
    }
    const PlainModel::Outcome wanted = plain(windows);
    const double progress = (step - 2) / 2.0, low = 0.25 * 0.01;
    const double lr = step < 2 ? 0.01 * step / 2 : low + (0.01 - low) * (1 + std::cos(std::numbers::pi * progress)) / 2;
    const StepLine& line = lines[static_cast<std::size_t>(step - 1)];
    EXPECT_EQ(line.step, step);
    EXPECT_NEAR(line.loss, wanted.loss, 1e-5 * wanted.loss) << "step " << step;
    EXPECT_NEAR(line.gradient_norm, wanted.norm, 1e-4 * wanted.norm) << "step " << step;
    EXPECT_NEAR(line.lr, lr, 1e-12);
    EXPECT_FALSE(line.skipped);
    EXPECT_GT(wanted.norm, job.train.clip);
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < plain.values.size(); ++i) {
      const at::Tensor g = wanted.gradients[i] * (job.train.clip / wanted.norm);
      m[i] = job.train.beta1 * m[i] + (1 - job.train.beta1) * g;
      v[i] = job.train.beta2 * v[i] + (1 - job.train.beta2) * g * g;
      const at::Tensor m_hat = m[i] / (1 - std::pow(job.train.beta1, step));
      const at::Tensor v_hat = v[i] / (1 - std::pow(job.train.beta2, step));
      const double decay = first.state.specs()[i].decays ? job.train.weight_decay : 0;
      plain.values[i].set_data(plain.values[i] * (1 - lr * decay) - lr * m_hat / (v_hat.sqrt() + job.train.eps));
    }
  }
  const Path saved = folder.path() / "run" / "checkpoint-4";
  ASSERT_TRUE(load_weights(last.state, saved, [](const std::string& line) { ADD_FAILURE() << line; }));
  ASSERT_TRUE(load_optimizer(last.state, saved / "state.safetensors"));
  for (std::size_t i = 0; i < plain.values.size(); ++i) {
    const at::Tensor moved = last.state.masters()[i] - first.state.masters()[i];
    EXPECT_LT(relative_error(moved, plain.values[i] - first.state.masters()[i].to(at::kDouble)), 1e-2)
        << first.state.specs()[i].name;
    EXPECT_LT(relative_error(last.state.first_moments()[i], m[i]), 1e-3) << first.state.specs()[i].name;
  }
}

TEST_F(TrainerTest, ARunThatStoppedGoesOnByAnotherPlanWithTheBitsOfOneThatDidNot) {
  const plan::Plan swapped = plan("swapped");
  const Summary whole = must_run("whole", swapped);
  std::vector<double> losses;
  for (const StepLine& line : lines) losses.push_back(line.loss);
  EXPECT_LT(losses.back(), losses.front()) << "it learns";

  std::atomic<int> interrupted{0};
  TrainRequest request;
  request.interrupted = &interrupted;
  request.on_step = [&](const StepLine& line) { interrupted = line.step == 2 ? 1 : 0; };
  const auto stopped = run("parts", swapped, request);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::interrupted);
  EXPECT_THAT(stopped.error().message, HasSubstr("stopped after step 2"));
  EXPECT_THAT(checkpoints("parts"), ElementsAre("checkpoint-2"));

  request = {};
  request.resume = true;
  const Summary rest = must_run("parts", plan("paged"), request);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].step, 3);
  EXPECT_EQ(lines[0].loss, losses[2]);
  EXPECT_EQ(lines[1].loss, losses[3]);
  EXPECT_EQ(rest.steps, 4);
  EXPECT_EQ(rest.loss_digest, whole.loss_digest);
  EXPECT_EQ(rest.grad_digest, whole.grad_digest);
  EXPECT_EQ(rest.loss_first, losses.front());
  const auto metrics = read_text(folder.path() / "parts" / "metrics.jsonl");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(std::ranges::count(*metrics, '\n'), 4) << "one line a step";
}

TEST_F(TrainerTest, OfTheCheckpointsOnTheWayTheNewestStay) {
  job.train.checkpoint_every = 1;
  job.train.keep_checkpoints = 2;
  must_run("run", plan("resident"));
  EXPECT_THAT(checkpoints("run"), ElementsAre("checkpoint-3", "checkpoint-4"));
  EXPECT_THAT(notes, IsEmpty());
}

TEST_F(TrainerTest, ACheckpointThatCannotBeSavedOnTheWayIsNotedAndTheRunGoesOn) {
  job.train.checkpoint_every = 1;
  std::optional<FileSizeLimit> full;
  TrainRequest request;
  request.on_step = [&](const StepLine& line) {
    full.reset();
    if (line.step == 2) full.emplace(10'000);  // the disk is full after the second step
  };
  const Summary summary = must_run("run", plan("resident"), request);
  full.reset();
  EXPECT_EQ(summary.steps, 4);
  EXPECT_THAT(notes, ElementsAre(AllOf(HasSubstr("no checkpoint after step 2: "), HasSubstr("File too large"),
                                       HasSubstr("the run goes on"))));
  EXPECT_THAT(checkpoints("run"), ElementsAre("checkpoint-3", "checkpoint-4"));
}

TEST_F(TrainerTest, AStepThatIsNotFiniteEndsTheRunWithTheStateBeforeItSaved) {
  job.train.lr = 1e38;
  const auto ended = run("run", plan("resident"));
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::run_time);
  EXPECT_THAT(ended.error().message, AllOf(HasSubstr("step 2: "), HasSubstr("not finite"),
                                           HasSubstr("the state after step 1 is saved"), Not(HasSubstr("\n"))));
  EXPECT_THAT(checkpoints("run"), ElementsAre("checkpoint-1"));
}

TEST_F(TrainerTest, StepsThatAreNotFiniteAreSkippedWhereTheJobSaysSo) {
  job.train.lr = 1e38;
  job.train.not_finite = job::NotFinite::skip;
  const Summary summary = must_run("run", plan("resident"));
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_FALSE(lines[0].skipped);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_TRUE(lines[i].skipped);
  EXPECT_EQ(summary.steps, 4);
  EXPECT_THAT(notes, testing::Each(AllOf(HasSubstr("step "), Not(HasSubstr("\n")))));
  EXPECT_EQ(store::read_state(folder.path() / "run" / "checkpoint-4")->skipped, (std::vector<std::int64_t>{2, 3, 4}));
}

TEST_F(TrainerTest, APlanThatIsNotOfTheJobIsRefusedInOneLineAndTheFolderIsNotMade) {
  const plan::Plan resident = plan("resident");
  const auto refused = [&] {
    const auto summary = run("run", resident);
    EXPECT_FALSE(summary);
    EXPECT_FALSE(std::filesystem::exists(folder.path() / "run"));
    const std::string message = summary ? "" : summary.error().message;
    EXPECT_THAT(message, AllOf(HasSubstr("plan the job again"), Not(HasSubstr("\n"))));
    return message;
  };
  job.train.batch = 2;
  EXPECT_THAT(refused(), HasSubstr("for 1 sequence(s) a step, train.batch is 2"));
  job.train.batch = 1;
  job.memory.device_limit = resident.program.arena - Bytes(1);
  EXPECT_THAT(refused(), HasSubstr("over memory.device_limit"));
}

TEST_F(TrainerTest, APlanThatUpdatesEarlyIsForJobsThatDoNotClip) {
  plan::Plan early = plan("resident");
  early.program = planner::build_program(early.profile, early.placement, {.early_updates = true}).program;
  early.predicted.device_peak = early.program.arena;
  const Summary wanted = must_run("late", plan("resident"));
  EXPECT_EQ(must_run("early", early).loss_digest, wanted.loss_digest);
  job.train.clip = 1;
  const auto refused = run("clipped", early);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("train.clip = 1 needs their norm first"));
}

}  // namespace
}  // namespace memo::libtorch
