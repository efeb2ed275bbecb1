// Checkpoints: whole or not there, also when the process is killed anywhere.
#include "memo/store/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <random>

#include "memo/store/safetensors.h"

namespace memo::store {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

// Of a run of which each step had another loss than its neighbours, or than those of `other` runs.
CheckpointState state_of(std::int64_t step, double other = 0) {
  CheckpointState state;
  state.step = step;
  state.seed = 7;
  for (std::int64_t i = 0; i < step; ++i) state.losses.push_back(other + 1.0 / (3.0 + static_cast<double>(i)));
  return state;
}

// One number everywhere: a checkpoint whose files disagree is a mixture.
Status write_contents(const Path& folder, std::int64_t step, std::size_t size = 100, double other = 0) {
  const std::vector<float> values(size, static_cast<float>(step));
  const TensorSource tensor{
      "w", TensorDType::f32, {static_cast<std::int64_t>(size)}, [&] { return std::as_bytes(std::span(values)); }};
  MEMO_TRY(std::vector<FileSum> files, write_tensor_folder(folder, std::span(&tensor, 1), Bytes(0)));
  MEMO_TRY(files.emplace_back(), write_tensor_file(folder / "state.safetensors", std::span(&tensor, 1)));
  MEMO_TRY(files.emplace_back(), write_hashed(folder / "config.json", "{}\n"));
  MEMO_TRY(files.emplace_back(), write_state(folder, state_of(step, other)));
  return write_manifest(folder, files);
}

Status save(const Path& run, std::int64_t step, int keep_last, std::size_t size = 100, double other = 0) {
  MEMO_TRY(const Path folder, begin_checkpoint(run, step));
  MEMO_CHECKED(write_contents(folder, step, size, other));
  return commit_checkpoint(folder, run, step, keep_last, [] {});
}

// The step of which all files of a checkpoint are, every weight read.
std::int64_t step_of_all_files(const Path& checkpoint) {
  const std::int64_t step = read_state(checkpoint)->step;
  for (const auto& files :
       {TensorFiles::open_folder(checkpoint), TensorFiles::open_file(checkpoint / "state.safetensors")}) {
    EXPECT_TRUE(files) << files.error().message;
    std::vector<float> values(static_cast<std::size_t>(files->tensors().at("w").bytes.value()) / 4);
    EXPECT_TRUE(files->read("w", 0, std::as_writable_bytes(std::span(values))));
    EXPECT_THAT(values, testing::Each(static_cast<float>(step)));
  }
  return step;
}

class Checkpoints : public testing::Test {
 protected:
  Checkpoints() : run_(Path(testing::TempDir()) / ("memo-checkpoints-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(run_);
  }
  ~Checkpoints() override { std::filesystem::remove_all(run_); }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(run_)) names.push_back(entry.path().filename());
    return names;
  }
  [[nodiscard]] std::optional<Path> latest() const {
    const auto found = latest_checkpoint(run_);
    EXPECT_TRUE(found) << found.error().message;
    return found && *found ? std::optional((*found)->path) : std::nullopt;
  }

  Path run_;
};

TEST_F(Checkpoints, ARunWithoutOneHasNoLatest) {
  EXPECT_EQ(latest(), std::nullopt);
  std::filesystem::create_directories(run_ / "checkpoint-x");
  std::filesystem::create_directories(run_ / "checkpoint-07");
  std::filesystem::create_directories(run_ / "checkpoint--7");
  EXPECT_EQ(latest(), std::nullopt);
}

TEST_F(Checkpoints, TheLatestIsOfTheHighestStep) {
  for (const std::int64_t step : {9, 10, 100}) ASSERT_TRUE(save(run_, step, 0));
  EXPECT_EQ(latest(), run_ / "checkpoint-100");
  EXPECT_EQ(step_of_all_files(*latest()), 100);
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-9", "checkpoint-10", "checkpoint-100"));
}

TEST_F(Checkpoints, StateReturnsBitForBit) {
  const CheckpointState state{12,
                              ~std::uint64_t{0},
                              {0.1, 1e-300, 5e-324, 1.7976931348623157e308, -0.0},
                              {3, 4},
                              {{"train.batch", "2"}, {"data.documents", "\"apart\""}},
                              {{"a b.txt", 12, "0123456789abcdef"}},
                              ""};
  std::filesystem::create_directories(run_);
  ASSERT_TRUE(write_state(run_, state));
  EXPECT_EQ(read_state(run_), state);
  ASSERT_TRUE(write_state(run_, {1, 1, {std::nan("")}, {}, {}, {}, ""}));
  EXPECT_TRUE(std::isnan(read_state(run_)->losses.at(0)));
}

TEST_F(Checkpoints, StateOfStrangersIsOfIntegers) {
  std::filesystem::create_directories(run_);
  const std::string good = R"({"version":1,"step":3,"seed":7,"job_digest":"x","losses":[1],"skipped":[2]})";
  ASSERT_TRUE(write_hashed(run_ / "state.json", good));
  EXPECT_EQ(read_state(run_), (CheckpointState{3, 7, {1}, {2}, {}, {}, "x"})) << "from before keys were kept";
  for (const auto& [key, value] : std::map<std::string, std::string>{
           {"\"step\":3", "\"step\":2e37"}, {"\"seed\":7", "\"seed\":-1"}, {"[2]", "[1e99]"}, {"[2]}", "2}"}}) {
    std::string text = good;
    ASSERT_TRUE(write_hashed(run_ / "state.json", text.replace(text.find(key), key.size(), value)));
    const auto state = read_state(run_);
    ASSERT_FALSE(state) << text;
    EXPECT_THAT(state.error().message, HasSubstr("state.json"));
  }
}

TEST_F(Checkpoints, OnlyTheLastOnesAreKept) {
  for (std::int64_t step = 1; step <= 5; ++step) ASSERT_TRUE(save(run_, step, 2));
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-4", "checkpoint-5"));
  ASSERT_TRUE(save(run_, 6, 1));
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-6"));
  ASSERT_TRUE(save(run_, 3, 1)) << "the one just written stays, whatever its step";
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-3", "checkpoint-6"));
}

// What a user or another run put into the folder is not this run's to remove.
TEST_F(Checkpoints, OnlyCheckpointsOfTheRunAreRemoved) {
  ASSERT_TRUE(save(run_, 1, 0, 100, 0.5));                     // of another run
  std::filesystem::create_directories(run_ / "checkpoint-2");  // of another program
  std::ofstream(run_ / "checkpoint-2" / "trainer_state.json") << "{}";
  std::ofstream(run_ / "checkpoint-3") << "a file";
  std::filesystem::create_directories(run_ / ".checkpoint-old.partial");
  for (std::int64_t step = 4; step <= 6; ++step) ASSERT_TRUE(save(run_, step, 1));
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-6",
                                            ".checkpoint-old.partial"));
  EXPECT_TRUE(std::filesystem::exists(run_ / "checkpoint-2" / "trainer_state.json"));
}

TEST_F(Checkpoints, OneInWhichSomethingWasPutStays) {
  ASSERT_TRUE(save(run_, 1, 0));
  ASSERT_TRUE(save(run_, 2, 0));
  std::ofstream(run_ / "checkpoint-1" / "notes.txt") << "mine";
  std::filesystem::create_directories(run_ / "checkpoint-2" / "scores");
  ASSERT_TRUE(save(run_, 3, 1));
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-1", "checkpoint-2", "checkpoint-3"));
  ASSERT_TRUE(save(run_, 2, 0)) << "nor is it replaced";
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-1", "checkpoint-2", "checkpoint-2.aside-1", "checkpoint-3"));
  EXPECT_TRUE(std::filesystem::exists(run_ / "checkpoint-1" / "notes.txt"));
  EXPECT_TRUE(std::filesystem::exists(run_ / "checkpoint-2.aside-1" / "scores"));
}

TEST_F(Checkpoints, WhatHasTheNameOfOneIsSetAside) {
  std::filesystem::create_directories(run_ / "checkpoint-2");
  std::ofstream(run_ / "checkpoint-2" / "trainer_state.json") << "{}";
  std::filesystem::create_directories(run_ / "checkpoint-2.aside-1");
  std::filesystem::create_symlink("nowhere", run_ / "checkpoint-3");
  ASSERT_TRUE(save(run_, 4, 0, 100, 0.5));
  for (std::int64_t step = 2; step <= 4; ++step) ASSERT_TRUE(save(run_, step, 1));
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-2.aside-1", "checkpoint-2.aside-2", "checkpoint-3.aside-1",
                                            "checkpoint-4.aside-1", "checkpoint-4"));
  EXPECT_TRUE(std::filesystem::exists(run_ / "checkpoint-2.aside-2" / "trainer_state.json"));
  EXPECT_EQ(read_state(run_ / "checkpoint-4.aside-1"), state_of(4, 0.5));
  EXPECT_EQ(latest(), run_ / "checkpoint-4");
}

TEST_F(Checkpoints, AStepSavedAgainReplacesTheOlderOne) {
  ASSERT_TRUE(save(run_, 4, 0, 10));
  ASSERT_TRUE(save(run_, 4, 0, 20));
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-4"));
  EXPECT_EQ(TensorFiles::open_folder(*latest())->tensors().at("w").bytes, Bytes(80));
}

TEST_F(Checkpoints, UnfinishedOnesAreNoCheckpointsAndAreRemoved) {
  ASSERT_TRUE(save(run_, 1, 0));
  const auto folder = begin_checkpoint(run_, 2);
  ASSERT_TRUE(folder);
  ASSERT_TRUE(write_contents(*folder, 2));  // all but committed
  EXPECT_EQ(latest(), run_ / "checkpoint-1");
  ASSERT_TRUE(save(run_, 3, 0));
  EXPECT_THAT(names(), UnorderedElementsAre("checkpoint-1", "checkpoint-3"));
}

// So that a watchdog can tell a large one from a disk that hangs.
TEST_F(Checkpoints, EveryPieceThatIsSyncedShows) {
  const auto moves = [&](std::uintmax_t more) {
    const auto folder = begin_checkpoint(run_, 2);
    EXPECT_TRUE(folder && write_contents(*folder, 2));
    std::ofstream(*folder / "more") << "more";
    std::filesystem::resize_file(*folder / "more", more);  // sparse
    int count = 0;
    EXPECT_TRUE(commit_checkpoint(*folder, run_, 2, 0, [&] { ++count; }));
    return count;
  };
  EXPECT_GT(moves(0), 6);
  EXPECT_GE(moves(std::uintmax_t{1} << 30), moves(0) + 8);
}

TEST_F(Checkpoints, AnIncompleteFolderIsNotCommitted) {
  for (const char* file : {"config.json", "model.safetensors", "state.safetensors", "state.json", "manifest.json"}) {
    const auto folder = begin_checkpoint(run_, 2);
    ASSERT_TRUE(folder);
    ASSERT_TRUE(write_contents(*folder, 2));
    std::filesystem::remove(*folder / file);
    const Status status = commit_checkpoint(*folder, run_, 2, 0, [] {});
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().message, HasSubstr(file));
  }
  EXPECT_EQ(latest(), std::nullopt);
}

TEST_F(Checkpoints, ADamagedOneIsPassedOver) {
  for (std::int64_t step = 1; step <= 5; ++step) ASSERT_TRUE(save(run_, step, 0));
  std::filesystem::remove(run_ / "checkpoint-5" / "state.json");
  std::filesystem::resize_file(run_ / "checkpoint-4" / "model.safetensors", 200);
  ASSERT_TRUE(write_state(run_ / "checkpoint-3", state_of(8)));
  EXPECT_EQ(latest(), run_ / "checkpoint-2");
}

// Any bit of any file: the one before it is used, and the damage named.
TEST_F(Checkpoints, AFlippedBitIsNamedAndTheOneBeforeUsed) {
  ASSERT_TRUE(save(run_, 1, 0));
  std::mt19937 random(1);
  for (const char* name : {"config.json", "model.safetensors", "state.safetensors", "state.json", "manifest.json"})
    for (int round = 0; round < 10; ++round) {
      ASSERT_TRUE(save(run_, 2, 0));
      ASSERT_EQ(latest(), run_ / "checkpoint-2");
      const Path file = run_ / "checkpoint-2" / name;
      std::string bytes = *read_text(file);
      const std::size_t at = random() % bytes.size();
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      ASSERT_TRUE(write_atomically(file, bytes));
      const auto found = latest_checkpoint(run_);
      ASSERT_TRUE(found && *found);
      EXPECT_EQ((*found)->path, run_ / "checkpoint-1") << name << " at " << at;
      EXPECT_THAT((*found)->damaged, testing::ElementsAre(HasSubstr("checkpoint-2/")));
    }
}

TEST_F(Checkpoints, WhenAllAreDamagedTheReasonIsTold) {
  ASSERT_TRUE(save(run_, 1, 0));
  ASSERT_TRUE(save(run_, 2, 0));
  for (const char* name : {"checkpoint-1", "checkpoint-2"}) std::filesystem::remove(run_ / name / "state.safetensors");
  const auto found = latest_checkpoint(run_);
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message, HasSubstr("no checkpoint is whole; the last one: "));
  EXPECT_THAT(found.error().message, HasSubstr("checkpoint-2/state.safetensors"));
}

TEST_F(Checkpoints, DamagedStatesAreRefusedInOneLine) {
  std::filesystem::create_directories(run_);
  for (const char* text : {"", "[]", "{}", "{\"version\":2}", "{\"version\":1,\"step\":\"x\"}",
                           "{\"version\":1,\"step\":1,\"seed\":1,\"job_digest\":\"\",\"losses\":[\"x\"]}",
                           R"({"version":1,"step":1,"seed":1,"losses":[],"skipped":[]})",
                           R"({"version":1,"step":1,"seed":1,"losses":[],"skipped":[],"keys":[],"data":[]})",
                           R"({"version":1,"step":1,"seed":1,"losses":[],"skipped":[],"keys":{},"data":[1]})"}) {
    ASSERT_TRUE(write_atomically(run_ / "state.json", text));
    const auto state = read_state(run_);
    ASSERT_FALSE(state) << text;
    EXPECT_THAT(state.error().message, HasSubstr("state.json: "));
    EXPECT_EQ(state.error().message.find('\n'), std::string::npos);
  }
}

// Saves steps first, first + 1, ... until it is killed; tells each through `pipe` once it is committed.
[[noreturn]] void save_until_killed(const Path& run, std::int64_t first, int pipe) {
  for (std::int64_t step = first;; ++step) {
    if (!save(run, step, 2, 5000)) ::_exit(1);
    if (::write(pipe, &step, sizeof step) != sizeof step) ::_exit(1);
  }
}

// Killed at random moments, again and again in one folder: the latest is the last one that was committed, or the one
// after it, of which only the word was lost; its files are whole and of one step; nothing piles up. Moments are counted
// in saves, not in seconds, so that kills fall into every part of a save on any disk.
TEST_F(Checkpoints, AKilledProcessLeavesTheOldOneOrTheNewOne) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  ASSERT_TRUE(save(run_, 1, 2, 5000));
  const auto save_time = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count();

  std::mt19937 random(1);
  std::int64_t committed = 1;
  int with_partial = 0;
  for (int round = 0; round < 40; ++round) {
    int pipe[2];
    ASSERT_EQ(::pipe(pipe), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_until_killed(run_, committed + 1, pipe[1]);
    ::close(pipe[1]);
    std::int64_t told = committed;
    for (int commits = round % 3; commits > 0; --commits) ASSERT_EQ(::read(pipe[0], &told, sizeof told), sizeof told);
    ::usleep(static_cast<useconds_t>(random() % (save_time + save_time / 4)));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "a save failed";
    while (::read(pipe[0], &told, sizeof told) == sizeof told) {
    }
    ::close(pipe[0]);

    const std::optional<Path> found = latest();
    ASSERT_TRUE(found);
    const std::int64_t step = step_of_all_files(*found);
    ASSERT_GE(step, told);
    ASSERT_LE(step, told + 1);
    ASSERT_GE(step, committed + round % 3);
    committed = step;
    const auto left = names();
    ASSERT_LE(left.size(), 4U) << "two kept, one that is being removed, one that is being written";
    with_partial += std::any_of(left.begin(), left.end(), [](const auto& name) { return name[0] == '.'; }) ? 1 : 0;
  }
  EXPECT_GE(committed, 40);  // 0, 1 or 2 a round were waited for
  EXPECT_GT(with_partial, 0) << "kills came while something was written";
}

}  // namespace
}  // namespace memo::store
