// The search over degrees and strategies, and the longest context that it finds.
#include "memo/estimate/search.h"

#include <gtest/gtest.h>

#include "setups.h"

namespace memo::estimate {
namespace {

// Few layers: what is tested is the search, not the planner.
Task small_task(const std::string& model, const std::string& hardware, int gpus, std::int64_t context) {
  Task task = task_of(model, hardware, gpus, context);
  task.shape.layers = 4;
  return task;
}

TEST(Search, RulesOutNothingThatIsMuchFaster) {
  const Task task = small_task("qwen3-4b", "H100", 4, 131072);
  const auto best = search(task, strategies(), 1);
  ASSERT_TRUE(best);
  ASSERT_EQ(best->best.size(), 1U);
  const auto all = search(task, strategies(), 1000);  // more than there are: none is ruled out for its time
  ASSERT_TRUE(all);
  ASSERT_GT(all->best.size(), 3U);
  // What is ruled out could be faster by one in a hundred.
  EXPECT_GE(best->best[0].estimate.tokens_per_second_gpu, 0.99 * all->best[0].estimate.tokens_per_second_gpu);
  for (const Found& found : all->best)
    EXPECT_LE(found.estimate.tokens_per_second_gpu, all->best[0].estimate.tokens_per_second_gpu);
}

TEST(Search, GivenDegreesAreObeyedOrRefused) {
  Task task = task_of("gpt-7b", "A800", 8, 65536);
  task.degrees = Degrees{};
  task.degrees->tensor = 8;
  const auto found = search(task, {*find_strategy("megatron")}, 1);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->best.at(0).setup.degrees.tensor, 8);
  task.degrees->tensor = 4;
  EXPECT_FALSE(search(task, {*find_strategy("megatron")}, 1));
}

TEST(Search, WhereNothingFitsTheLeastOverIsShown) {
  const auto found = search(task_of("gpt-65b", "A10", 1, 4096), {*find_strategy("megatron")}, 1);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->best.empty());
}

TEST(LongestContext, MemoHoldsAtLeastWhatItsPeersHold) {
  const Task task = small_task("gpt-7b", "A800", 8, 1);
  const auto longest = [&](const char* name) {
    return longest_context(task, *find_strategy(name), Tokens(262144)).value().context;
  };
  EXPECT_GE(longest("memo"), longest("megatron"));
  EXPECT_GE(longest("megatron"), longest("megatron-kept"));
}

TEST(LongestContext, IsEstimatedByTheFastestPlan) {
  Task task = small_task("gpt-7b", "A800", 8, 1);
  const Longest longest = longest_context(task, *find_strategy("memo"), Tokens(262144)).value();
  ASSERT_TRUE(longest.found);
  task.context = longest.context, task.most_planned = 2;
  const Outcome again = search(task, {*find_strategy("memo")}, 1).value();
  EXPECT_EQ(longest.found->estimate.step.value(), again.best.at(0).estimate.step.value());
}

// 7B on 8 A800, the paper's table of longest contexts, in its steps of 128K: MEMO 1024K.
TEST(LongestContext, OfMemosWholeLayersIsThePapers) {
  Task task = task_of("gpt-7b", "A800", 8, 1);
  const Longest longest = longest_context(task, *find_strategy("memo-alpha"), Tokens(131072)).value();
  EXPECT_GE(longest.context, Tokens(896 * 1024));
  EXPECT_LE(longest.context, Tokens(1152 * 1024));
}

}  // namespace
}  // namespace memo::estimate
