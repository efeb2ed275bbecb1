// AdamW against its formula in float64, clipping, and the schedule's corners.
#include "memo/libtorch/model/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace memo::libtorch {
namespace {

using Tensors = std::vector<at::Tensor>;

TEST(AdamWStep, FollowsTheFormulaWithDecayWhereAskedFor) {
  at::manual_seed(3);
  const AdamW settings{0.01, 0.9, 0.95, 1e-8, 0.1};
  const std::vector<bool> decays{true, false, true};
  Tensors values{at::randn({40, 30}), at::randn({7}), at::randn({1000})}, first, second, wanted, m, v;
  for (const at::Tensor& value : values) {
    first.push_back(at::zeros_like(value));
    second.push_back(at::zeros_like(value));
    wanted.push_back(value.to(at::kDouble));
    m.push_back(at::zeros_like(wanted.back()));
    v.push_back(at::zeros_like(wanted.back()));
  }
  for (std::int64_t step = 1; step <= 5; ++step) {
    Tensors gradients;
    for (const at::Tensor& value : values) gradients.push_back(at::randn_like(value));
    adamw_step(settings, step, values, gradients, first, second, decays);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const at::Tensor g = gradients[i].to(at::kDouble);
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      const auto t = static_cast<double>(step);
      const at::Tensor m_hat = m[i] / (1 - std::pow(0.9, t)), v_hat = v[i] / (1 - std::pow(0.95, t));
      wanted[i] = wanted[i] * (1 - 0.01 * (decays[i] ? 0.1 : 0.0)) - 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
      EXPECT_TRUE(at::allclose(values[i].to(at::kDouble), wanted[i], 1e-5, 1e-6)) << "step " << step << ", " << i;
    }
  }
}

double norm_of(const Tensors& gradients) {
  double squares = 0;
  for (const at::Tensor& gradient : gradients) squares += sum_of_squares(gradient);
  return std::sqrt(squares);
}

TEST(ClipGradients, ScalesToTheGlobalNorm) {
  at::manual_seed(4);
  const Tensors gradients{at::randn({300, 700}), at::randn({3})};
  const double norm = at::cat({gradients[0].flatten(), gradients[1]}).to(at::kDouble).norm().item<double>();
  EXPECT_NEAR(norm_of(gradients), norm, 1e-9 * norm);
  clip_gradients(gradients, norm, 0.0);
  EXPECT_NEAR(norm_of(gradients), norm, 1e-9 * norm) << "0 is no limit";
  clip_gradients(gradients, norm, 2.0);
  EXPECT_NEAR(norm_of(gradients), 2.0, 1e-5);
}

TEST(ClipGradients, LeavesSmallGradientsAsTheyAre) {
  const Tensors gradients{at::full({10}, 0.1)};
  const at::Tensor before = gradients[0].clone();
  clip_gradients(gradients, norm_of(gradients), 1.0);
  EXPECT_TRUE(at::equal(gradients[0], before));
}

TEST(ClipGradients, OfNoGradientIsNorm0) { EXPECT_EQ(norm_of({at::zeros({5})}), 0.0); }

// What a GPU does without telling the host: here with tensors of the CPU.
TEST(Gate, ClipsAsTheHostDoes) {
  at::manual_seed(5);
  for (const double scale : {0.001, 1.0}) {
    const Tensors values{at::randn({300})}, same{values[0].clone()}, gradients{at::randn({300}) * scale};
    const Tensors clipped{gradients[0].clone()};
    const Tensors moments{at::zeros({300}), at::zeros({300}), at::zeros({300}), at::zeros({300})};
    const at::Tensor squares = gradients[0].to(at::kDouble).square().sum().reshape({1});
    const Gate gate = gate_of(squares, at::zeros({1}, at::kDouble), 1.0);
    adamw_step({}, 1, values, gradients, {moments[0]}, {moments[1]}, {true}, gate);
    clip_gradients(clipped, norm_of(clipped), 1.0);
    adamw_step({}, 1, same, clipped, {moments[2]}, {moments[3]}, {true});
    EXPECT_LT((values[0] - same[0]).abs().max().item<double>(), 1e-6);
    EXPECT_LT((moments[0] - moments[2]).abs().max().item<double>(), 1e-7);
  }
}

TEST(Gate, NothingChangesWhenALossOrAGradientIsNotFinite) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const auto& [square, loss] : {std::pair(nan, 1.0), {infinity, 1.0}, {1.0, nan}, {1.0, infinity}}) {
    const Tensors values{at::randn({30})}, moments{at::ones({30}), at::ones({30})};
    const at::Tensor before = values[0].clone();
    const Gate gate = gate_of(at::full({1}, square, at::kDouble), at::full({1}, loss, at::kDouble), 1.0);
    EXPECT_EQ(gate.refused->item<float>(), 1);
    adamw_step({}, 1, values, {at::randn({30})}, {moments[0]}, {moments[1]}, {true}, gate);
    EXPECT_TRUE(at::equal(values[0], before));
    EXPECT_TRUE(at::equal(moments[0], at::ones({30}))) << moments[0];
  }
}

TEST(LearningRate, WarmsUpLinearlyThenFallsAsACosineToItsLeast) {
  job::TrainOptions options;
  options.lr = 1.0;
  options.min_lr_ratio = 0.2;
  options.warmup_steps = 10;
  options.steps = 110;
  EXPECT_DOUBLE_EQ(lr_at(options, 1), 0.1);
  EXPECT_DOUBLE_EQ(lr_at(options, 5), 0.5);
  EXPECT_DOUBLE_EQ(lr_at(options, 10), 1.0);
  EXPECT_DOUBLE_EQ(lr_at(options, 60), 0.6) << "half way";
  EXPECT_DOUBLE_EQ(lr_at(options, 110), 0.2);
  EXPECT_DOUBLE_EQ(lr_at(options, 1000), 0.2) << "and stays";
}

TEST(LearningRate, WithoutWarmUpBeginsNearItsTop) {
  job::TrainOptions options;
  options.lr = 1.0;
  options.steps = 1000;
  EXPECT_GT(lr_at(options, 1), 0.99);
}

TEST(LearningRate, OfWarmUpAloneEndsAtItsTop) {
  job::TrainOptions options;
  options.lr = 1.0;
  options.warmup_steps = options.steps = 10;
  EXPECT_DOUBLE_EQ(lr_at(options, 9), 0.9);
}

}  // namespace
}  // namespace memo::libtorch
