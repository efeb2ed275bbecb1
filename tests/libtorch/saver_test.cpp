// Checkpoints of a run beside its steps: what is saved is the state at the time of the call, all of it, and a save that
// fails, wherever it does, leaves those before it whole and nothing of its own.
#include "memo/libtorch/train/saver.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "memo/libtorch/train/weights_io.h"
#include "memo/store/checkpoint_files.h"
#include "tests/base/file_size_limit.h"
#include "tests/libtorch/tiny_job.h"

namespace memo::libtorch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// A state in memory, and a hand that is in between whenever a group is brought.
struct SavedModel final : StatePager {
  explicit SavedModel(const model::Shape& of, job::DType dtype = job::DType::float32)
      : shape(of),
        whole(shape, dtype),
        memory(*Arena::map(whole.bytes())),
        state(
            shape, dtype, [this](const StateGroup& group) { return whole.regions(memory.data(), group); }, this) {}
  // Values that tell tensors, parameters and `number` apart.
  void fill(double number) {
    ASSERT_TRUE(state.change([&](std::size_t i) -> Status {
      const double base = number + static_cast<double>(i) / 64;
      state.masters()[i].fill_(base + 1.0 / 1024);  // no bfloat16
      state.masters()[i].flatten()[0] = base + 7;
      state.first_moments()[i].fill_(base + 100);
      state.second_moments()[i].fill_(base + 200);
      return {};
    }));
  }
  std::vector<at::Tensor> contents() const {
    std::vector<at::Tensor> result;
    for (std::size_t i = 0; i < state.specs().size(); ++i)
      for (const at::Tensor& tensor :
           {state.parameters()[i].value, state.masters()[i], state.first_moments()[i], state.second_moments()[i]})
        result.push_back(tensor.clone());
    return result;
  }
  Status fetch(const StateGroup&) override { return between ? between(++fetched) : Status(); }
  Status store(const StateGroup&) override { return {}; }

  model::Shape shape;
  WholeState whole;
  Arena memory;
  ModelState state;
  std::function<Status(int)> between;
  int fetched = 0;
};

void expect_equal_states(const SavedModel& a, const std::vector<at::Tensor>& b) {
  const std::vector<at::Tensor> tensors = a.contents();
  ASSERT_EQ(tensors.size(), b.size());
  for (std::size_t i = 0; i < b.size(); ++i) EXPECT_TRUE(at::equal(tensors[i], b[i])) << i;
}

class SaverTest : public testing::Test {
 protected:
  static store::CheckpointState about(std::int64_t step) {
    store::CheckpointState state;
    state.step = step;
    state.seed = 7;
    for (std::int64_t k = 1; k <= step; ++k) state.losses.push_back(1.0 / static_cast<double>(k));
    state.keys["train.lr"] = "0.5";
    return state;
  }
  Status save(CheckpointSaver& saver, SavedModel& model, std::int64_t step) const {
    return saver.save(model.state, about(step), config);
  }
  // Saves step 1, copies its contents to `saved`, and goes on to the state of step 2.
  void save_first(CheckpointSaver& saver, SavedModel& model, std::vector<at::Tensor>& saved) const {
    model.fill(1);
    saved = model.contents();
    ASSERT_TRUE(save(saver, model, 1));
    ASSERT_TRUE(saver.wait());
    model.fill(2);
  }
  // The newest checkpoint that is whole, with what it says and holds.
  void expect_latest(std::int64_t step, const std::vector<at::Tensor>& contents) const {
    const auto latest = store::latest_checkpoint(folder.path());
    ASSERT_TRUE(latest && *latest) << (latest ? "none" : latest.error().message);
    EXPECT_THAT((*latest)->damaged, testing::IsEmpty());
    EXPECT_EQ(*store::read_state((*latest)->path), about(step));
    SavedModel loaded(shape);
    loaded.fill(-1);
    ASSERT_TRUE(load_weights(loaded.state, (*latest)->path, [](const std::string& line) { ADD_FAILURE() << line; }));
    ASSERT_TRUE(load_optimizer(loaded.state, (*latest)->path / "state.safetensors"));
    expect_equal_states(loaded, contents);
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
      result.push_back(entry.path().filename().string());
    std::ranges::sort(result);
    return result;
  }

  const OneThread one_thread;
  const TinyFolder folder;
  const model::Shape shape = shape_of(tiny_job());
  const std::string config = *model::config_text(shape, job::DType::float32);
};

TEST_F(SaverTest, WhatIsSavedIsWhatIsLoadedToTheLastBit) {
  for (const job::DType dtype : {job::DType::float32, job::DType::bfloat16}) {
    SavedModel model(shape, dtype), loaded(shape, dtype);
    model.fill(1);
    loaded.fill(2);
    CheckpointSaver saver(folder.path(), 0, nullptr);
    const std::int64_t step = dtype == job::DType::float32 ? 1 : 2;
    ASSERT_TRUE(save(saver, model, step));
    EXPECT_EQ(saver.last_step(), step);
    ASSERT_TRUE(saver.wait());
    const Path checkpoint = folder.path() / ("checkpoint-" + std::to_string(step));
    EXPECT_EQ(*store::read_state(checkpoint), about(step));
    EXPECT_EQ(*read_text(checkpoint / "config.json"), config);
    ASSERT_TRUE(load_weights(loaded.state, checkpoint, [](const std::string& line) { ADD_FAILURE() << line; }));
    ASSERT_TRUE(load_optimizer(loaded.state, checkpoint / "state.safetensors"));
    expect_equal_states(loaded, model.contents());
  }
}

TEST_F(SaverTest, TrainingGoesOnWhileASaveIsUnderWay) {
  SavedModel model(shape);
  CheckpointSaver saver(folder.path(), 0, nullptr);
  std::vector<at::Tensor> saved;
  for (std::int64_t step = 1; step <= 3; ++step) {
    model.fill(static_cast<double>(step));
    saved = model.contents();
    ASSERT_TRUE(save(saver, model, step));
    model.fill(1000);  // the next step
  }
  ASSERT_TRUE(saver.wait());
  ASSERT_TRUE(saver.wait()) << "of nothing";
  expect_latest(3, saved);
  EXPECT_THAT(names(), ElementsAre("checkpoint-1", "checkpoint-2", "checkpoint-3"));
}

TEST_F(SaverTest, TheNewestStay) {
  SavedModel model(shape);
  CheckpointSaver saver(folder.path(), 2, nullptr);
  for (const std::int64_t step : {2, 4, 6, 8}) {
    model.fill(static_cast<double>(step));
    ASSERT_TRUE(save(saver, model, step));
  }
  ASSERT_TRUE(saver.wait());
  EXPECT_THAT(names(), ElementsAre("checkpoint-6", "checkpoint-8"));
}

TEST_F(SaverTest, ASaveThatFailsWhereverItDoesLeavesTheOneBeforeItWholeAndNothingElse) {
  SavedModel model(shape);
  CheckpointSaver saver(folder.path(), 1, nullptr);
  std::vector<at::Tensor> saved;
  ASSERT_NO_FATAL_FAILURE(save_first(saver, model, saved));
  int failures = 0;
  for (int at = 1;; ++at) {  // at the first group that is brought, at the second ..., until there is no more
    model.fetched = 0;
    model.between = [&](int fetched) { return fetched == at ? Status(run_time_error("the tier is gone")) : Status(); };
    const Status status = save(saver, model, 2);
    if (status) break;
    ++failures;
    EXPECT_THAT(status.error().message, HasSubstr("the tier is gone"));
    EXPECT_THAT(names(), ElementsAre("checkpoint-1")) << at;
    expect_latest(1, saved);
    EXPECT_EQ(saver.last_step(), 1);
    EXPECT_TRUE(saver.wait()) << "told already";
  }
  EXPECT_GE(failures, 2 * 2 * static_cast<int>(shape.layers)) << "weights and moments of each group";
  ASSERT_TRUE(saver.wait()) << "and the one that did not fail is there";
  expect_latest(2, model.contents());
  EXPECT_THAT(names(), ElementsAre("checkpoint-2"));
}

TEST_F(SaverTest, ADiskThatIsFullIsOneLineAndTheNextSaveWorks) {
  SavedModel model(shape);
  CheckpointSaver saver(folder.path(), 0, nullptr);
  std::vector<at::Tensor> saved;
  ASSERT_NO_FATAL_FAILURE(save_first(saver, model, saved));
  for (const std::int64_t room : {1000, 150'000}) {  // in the weights' file, in the moments'
    const FileSizeLimit limit(room);
    const Status full = save(saver, model, 2);
    ASSERT_FALSE(full) << room;
    EXPECT_THAT(full.error().message, testing::AllOf(HasSubstr("File too large"), Not(HasSubstr("\n"))));
    EXPECT_THAT(names(), ElementsAre("checkpoint-1"));
  }
  expect_latest(1, saved);
  ASSERT_TRUE(save(saver, model, 2));
  ASSERT_TRUE(saver.wait());
  expect_latest(2, model.contents());
}

TEST_F(SaverTest, AFailureBehindTheCallIsToldOnceByWaitOrByTheNextSave) {
  SavedModel model(shape);
  CheckpointSaver saver(folder.path(), 0, nullptr);
  std::vector<at::Tensor> saved;
  ASSERT_NO_FATAL_FAILURE(save_first(saver, model, saved));
  // Someone removes the weights while the moments are written.
  const auto lose_weights = [&](int) -> Status {
    std::filesystem::remove(folder.path() / ".checkpoint-2.partial" / "model.safetensors");
    return {};
  };
  for (const bool by_save : {false, true}) {
    model.between = lose_weights;
    ASSERT_TRUE(save(saver, model, 2));
    EXPECT_EQ(saver.last_step(), 2);
    model.between = nullptr;
    const Status told = by_save ? save(saver, model, 3) : saver.wait();
    ASSERT_FALSE(told);
    EXPECT_THAT(told.error().message, testing::AllOf(HasSubstr("model.safetensors"), Not(HasSubstr("\n"))));
    EXPECT_EQ(saver.last_step(), -1);
    EXPECT_TRUE(saver.wait()) << "told once";
    EXPECT_THAT(names(), ElementsAre("checkpoint-1"));
    expect_latest(1, saved);
  }
  ASSERT_TRUE(save(saver, model, 2));
  ASSERT_TRUE(saver.wait());
  expect_latest(2, model.contents());
}

}  // namespace
}  // namespace memo::libtorch
