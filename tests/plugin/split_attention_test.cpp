// Attention split over ranks, which are threads here, against attention over the whole sequence.
#include "memo/plugin/split_attention.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <vector>

#include "memo/libtorch/kernels/attention.h"

namespace memo::plugin {
namespace {

// What ranks, threads here, have given to exchanges so far.
class Board {
 public:
  explicit Board(int ranks) : ranks_(ranks) {}
  void give(int rank, std::size_t exchange, const at::Tensor& in) {
    const std::lock_guard lock(mutex_);
    given_[{exchange, rank}] = in.clone();
    changed_.notify_all();
  }
  at::Tensor take(int rank, std::size_t exchange) {
    std::unique_lock lock(mutex_);
    std::vector<at::Tensor> parts;
    for (int from = 0; from < ranks_; ++from) {
      changed_.wait(lock, [&] { return given_.contains({exchange, from}); });
      parts.push_back(given_[{exchange, from}].narrow(0, rank, 1));
    }
    return at::cat(parts, 0);
  }

 private:
  int ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<std::size_t, int>, at::Tensor> given_;
};

class RankCalls final : public LayerCalls {
 public:
  RankCalls(Board& board, int ranks, int rank) : board_(board), ranks_(ranks), rank_(rank) {}
  AtAttention before(model::LayerIndex, model::BlockIndex, const at::Tensor&) override { return {}; }
  AtOutput after(model::LayerIndex, model::BlockIndex, const at::Tensor&) override { return {}; }
  [[nodiscard]] int ranks() const override { return ranks_; }
  void begin_exchange(const at::Tensor& out, const at::Tensor& in) override {
    board_.give(rank_, begun_++, in);
    out.fill_(std::numeric_limits<float>::quiet_NaN());
    under_way_.push_back(out);
    most_ = std::max(most_, under_way_.size());
  }
  void end_exchange() override {
    under_way_.front().copy_(board_.take(rank_, begun_ - under_way_.size()));
    under_way_.pop_front();
  }
  void forget() override {}
  [[nodiscard]] std::size_t most_under_way() const { return most_; }

 private:
  Board& board_;
  int ranks_, rank_;
  std::size_t begun_ = 0, most_ = 0;
  std::deque<at::Tensor> under_way_;
};

struct Shape {
  int ranks;
  std::int64_t queries, keys;
};
class SplitAttention : public testing::TestWithParam<Shape> {};

TEST_P(SplitAttention, GivesEachRankItsTokensOfAttentionOverTheWholeSequence) {
  const auto [ranks, queries, keys] = GetParam();
  const libtorch::GroupHeads heads{queries, keys, 8};
  constexpr std::int64_t tokens = 48;  // of a rank
  const libtorch::AttentionKernel& kernel = libtorch::attention_kernels(c10::kCPU).front();
  const libtorch::Mask window{{}, 70};
  at::Generator generator = at::detail::createCPUGenerator(1);
  const at::Tensor qkv = at::randn({ranks * tokens, (queries + 2 * keys) * heads.dim}, generator);
  const at::Tensor d_o = at::randn({ranks * tokens, queries * heads.dim}, generator);
  const auto [o, lse] = libtorch::causal_attention(qkv, heads, window);
  const auto [dq, dk, dv] = libtorch::causal_attention_backward(d_o, qkv, o, lse, heads, window);

  Board board(ranks);
  std::vector<std::future<std::vector<at::Tensor>>> running;
  for (int r = 0; r < ranks; ++r)
    running.push_back(std::async(std::launch::async, [&, r] {
      const auto own = [&](const at::Tensor& all) { return all.narrow(0, r * tokens, tokens); };
      RankCalls calls(board, ranks, r);
      const auto [own_o, own_lse] = split_attention(own(qkv), heads, window, calls, kernel);
      const auto [own_dq, own_dk, own_dv] =
          split_attention_backward(own(d_o), own(qkv), own_o, own_lse, heads, window, calls, kernel);
      EXPECT_EQ(calls.most_under_way() > 3, keys > ranks)
          << "the next head's rows come while the last one's results go";
      return std::vector{own_o, own_dq, own_dk, own_dv};
    }));
  std::vector<std::vector<at::Tensor>> parts(4);
  for (auto& rank : running) {
    const std::vector<at::Tensor> results = rank.get();
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i].push_back(results[i]);
  }
  EXPECT_TRUE(at::cat(parts[0], 0).equal(o));
  EXPECT_TRUE(at::cat(parts[1], 0).equal(dq));
  EXPECT_TRUE(at::cat(parts[2], 0).allclose(dk, 1e-5, 1e-5)) << "a key's queries on several ranks are summed elsewhere";
  EXPECT_TRUE(at::cat(parts[3], 0).allclose(dv, 1e-5, 1e-5));
}

INSTANTIATE_TEST_SUITE_P(, SplitAttention,
                         testing::Values(Shape{2, 4, 2}, Shape{2, 8, 4}, Shape{2, 6, 6}, Shape{4, 8, 2}, Shape{4, 4, 1},
                                         Shape{3, 3, 3}),
                         [](const auto& info) {
                           return std::to_string(info.param.ranks) + "Ranks" + std::to_string(info.param.queries) +
                                  "Queries" + std::to_string(info.param.keys) + "Keys";
                         });

}  // namespace
}  // namespace memo::plugin
