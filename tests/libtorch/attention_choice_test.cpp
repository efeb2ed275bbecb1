// The choice of a kernel of attention: by limits, by results and by time, among kernels planted on the CPU.
#include "memo/libtorch/measure/attention_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <thread>

namespace memo::libtorch {
namespace {

using testing::HasSubstr;
using Forward = std::tuple<at::Tensor, at::Tensor>;
using Backward = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

const AttentionKernel& plain() { return attention_kernels(c10::kCPU).front(); }

template <int milliseconds>
Forward late_forward(const at::Tensor& qkv, const GroupHeads& h, const Mask& mask, std::optional<QueryRange> range) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  return plain().forward(qkv, h, mask, range);
}
Forward wrong_forward(const at::Tensor& qkv, const GroupHeads& h, const Mask& mask, std::optional<QueryRange> range) {
  auto [o, lse] = plain().forward(qkv, h, mask, range);
  return {o.mul_(1.5), lse};
}
Forward failing_forward(const at::Tensor&, const GroupHeads&, const Mask&, std::optional<QueryRange>) {
  throw std::runtime_error("no such instruction\nand a backtrace");
}
Backward backward(const at::Tensor& d_o, const at::Tensor& qkv, const at::Tensor& o, const at::Tensor& lse,
                  const GroupHeads& h, const Mask& mask) {
  return plain().backward(d_o, qkv, o, lse, h, mask);
}

AttentionKernel planted(const char* name, decltype(&causal_attention) forward) {
  return {name, plain().limits, forward, backward};
}

class Choice : public testing::Test {
 protected:
  Result<AttentionChoice> choose(std::span<const AttentionKernel> kernels, const std::string& wanted = "auto") {
    return choose_attention(kernels, wanted, calls_, *device_, [&](const std::string& line) { said_ += line + "\n"; });
  }
  std::string chosen(std::span<const AttentionKernel> kernels) {
    const auto choice = choose(kernels);
    return choice ? choice->kernel->name : choice.error().message;
  }
  CoreCalls calls_{{2, 1, 16}, at::kFloat, Tokens(96)};
  std::unique_ptr<Device> device_ = cpu_device();
  std::string said_;
};

TEST_F(Choice, IsTheFastestInEveryOrder) {
  const AttentionKernel slow = planted("slow", late_forward<9>), fast = planted("fast", late_forward<0>);
  const std::array<AttentionKernel, 2> one{slow, fast}, other{fast, slow};
  EXPECT_EQ(chosen(one), "fast");
  EXPECT_EQ(chosen(other), "fast");
  const auto choice = choose(one);
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->measured.size(), 2);
  EXPECT_EQ(choice->measured[0].kernel, "slow");
  EXPECT_EQ(choice->measured[0].tokens, Tokens(96));
  EXPECT_GE(choice->measured[0].forward, Seconds(9e-3));
  EXPECT_LT(choice->measured[1].forward, choice->measured[0].forward);
}

TEST_F(Choice, LeavesOutKernelsThatComputeOtherwiseOrFail) {
  const std::array<AttentionKernel, 3> kernels{planted("slow", late_forward<9>), planted("wrong", wrong_forward),
                                               planted("failing", failing_forward)};
  EXPECT_EQ(chosen(kernels), "slow");
  EXPECT_THAT(said_, HasSubstr("wrong is not that of slow"));
  EXPECT_THAT(said_, HasSubstr("failing does not run here: no such instruction\n"));
  const std::array<AttentionKernel, 2> none{kernels[2], kernels[2]};
  const auto choice = choose(none);
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().kind, ErrorKind::run_time);
}

TEST_F(Choice, KeepsToLimits) {
  std::array<AttentionKernel, 2> kernels{planted("slow", late_forward<9>), planted("fast", late_forward<0>)};
  AttentionLimits& limits = kernels[1].limits;
  const auto refused = [&](const AttentionLimits& own) {
    limits = own;
    return chosen(kernels) == "slow";
  };
  const AttentionLimits all = plain().limits;
  EXPECT_FALSE(refused(all));
  AttentionLimits fewer = all;
  fewer.in_order = false;
  EXPECT_TRUE(refused(fewer));
  fewer = all, fewer.float32 = false;
  EXPECT_TRUE(refused(fewer));
  fewer = all, fewer.most_dim = 8, fewer.dim_multiple = 8;
  EXPECT_TRUE(refused(fewer));
  fewer.most_dim = 32, fewer.dim_multiple = 32;
  EXPECT_TRUE(refused(fewer));
  fewer = all, fewer.window = false;
  EXPECT_FALSE(refused(fewer));
  calls_.window = 96;  // all keys
  EXPECT_FALSE(refused(fewer));
  calls_.window = 95;
  EXPECT_TRUE(refused(fewer));
  calls_.window = 0;
  fewer = all, fewer.documents = false;
  EXPECT_FALSE(refused(fewer));
  calls_.documents = true;
  EXPECT_TRUE(refused(fewer));
}

TEST_F(Choice, TakesTheNamedOneOrSaysWhyNot) {
  std::array<AttentionKernel, 2> kernels{planted("slow", late_forward<9>), planted("fast", late_forward<0>)};
  kernels[0].limits.in_order = false;  // a name is taken all the same
  auto choice = choose(kernels, "slow");
  ASSERT_TRUE(choice);
  EXPECT_STREQ(choice->kernel->name, "slow");
  kernels[0].limits.most_dim = 8;
  choice = choose(kernels, "slow");
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(choice.error().message, "slow has no attention for heads of 16 values; it takes multiples of 1 up to 8");
  choice = choose(kernels, "other");
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().message, "there is no kernel of attention 'other', but slow, fast");
}

}  // namespace
}  // namespace memo::libtorch
