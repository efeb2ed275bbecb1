// The kernels against ATen's operators and autograd in float64, in float32 and bfloat16, at sizes that fill vectors and
// at sizes that do not.
#include "memo/libtorch/kernels/kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "parity_step.h"

namespace memo::libtorch {
namespace {

using torch::autograd::grad;

at::Tensor wide(const at::Tensor& tensor) { return tensor.to(at::kDouble).set_requires_grad(true); }

Parameter parameter(const at::Tensor& value) { return {"", value, at::randn(value.sizes())}; }
// What was accumulated on top of what was there.
at::Tensor gained(const Parameter& after, const at::Tensor& before) { return after.gradient - before; }

class Kernels : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(1); }
  [[nodiscard]] at::Tensor random(at::IntArrayRef sizes) const { return at::randn(sizes).to(GetParam()); }
  // bfloat16 results are rounded once: at most 2^-9 of each value.
  [[nodiscard]] double tolerance() const { return GetParam() == at::kFloat ? 1e-6 : 4e-3; }
};

TEST_P(Kernels, Normalise) {
  for (const bool layer : {false, true}) {
    for (const std::int64_t columns : {7, 64, 520}) {
      const Norm norm{parameter(random({columns})), layer ? parameter(random({columns})) : Parameter{}, layer, 1e-5};
      const at::Tensor weight_before = norm.weight.gradient.clone();
      const at::Tensor bias_before = layer ? norm.bias.gradient.clone() : at::Tensor();
      const at::Tensor x = random({150, columns}) + 0.5, d = random({150, columns});
      at::Tensor y = at::empty_like(x), dx = d.clone();
      normalise(x, norm, y);
      normalise_backward(x, norm, dx);

      const at::Tensor wx = wide(x), weight = wide(norm.weight.value);
      const at::Tensor bias = layer ? wide(norm.bias.value) : at::Tensor();
      const at::Tensor wanted = layer ? at::layer_norm(wx, {columns}, weight, bias, 1e-5)
                                      : wx * at::rsqrt(wx.square().mean(-1, true) + 1e-5) * weight;
      EXPECT_LT(relative_error(y, wanted), tolerance());
      Tensors inputs{wx, weight};
      if (layer) inputs.push_back(bias);
      const Tensors of = grad({wanted}, inputs, {d.to(at::kDouble)});
      EXPECT_LT(relative_error(dx, of[0]), tolerance());
      EXPECT_LT(relative_error(gained(norm.weight, weight_before), of[1]), 1e-5);
      if (layer) {
        EXPECT_LT(relative_error(gained(norm.bias, bias_before), of[2]), 1e-5);
      }
    }
  }
}

TEST_P(Kernels, Activate) {
  for (const auto activation : {model::Activation::silu, model::Activation::gelu_tanh}) {
    const bool gated = activation == model::Activation::silu;
    for (const std::int64_t columns : {5, 48, 260}) {
      const at::Tensor h = random({33, gated ? 2 * columns : columns}) * 4, da = random({33, columns});
      at::Tensor a = at::empty_like(da), again = da.clone(), dh = at::empty_like(h);
      activate(h, activation, a);
      activate_backward(h, activation, again, dh);

      const at::Tensor wh = wide(h);
      const at::Tensor wanted =
          gated ? at::silu(wh.narrow(1, 0, columns)) * wh.narrow(1, columns, columns) : at::gelu(wh, "tanh");
      EXPECT_LT(relative_error(a, wanted), tolerance());
      EXPECT_TRUE(at::equal(again, a)) << "backward computes the same activation";
      EXPECT_LT(relative_error(dh, grad({wanted}, {wh}, {da.to(at::kDouble)})[0]), tolerance());
    }
  }
}

TEST_P(Kernels, ActivationsOfExtremeValuesAreFinite) {
  const at::Tensor gates = at::tensor({-1e30, -200.0, -88.0, 0.0, 88.0, 200.0, 1e30}).to(GetParam());
  const at::Tensor h = at::stack({gates, at::ones_like(gates)}, 1);  // [7, 2]
  at::Tensor a = at::empty({7, 1}, h.options());
  activate(h, model::Activation::silu, a);
  EXPECT_TRUE(at::allclose(a.to(at::kDouble).squeeze(1), at::silu(gates.to(at::kDouble)), 4e-3, 1e-30)) << a;
}

TEST_P(Kernels, NaNStaysNaN) {
  const at::Tensor h = at::full({1, 40}, std::nan("")).to(GetParam());
  at::Tensor a = at::empty({1, 20}, h.options());
  activate(h, model::Activation::silu, a);
  EXPECT_TRUE(a.isnan().all().item<bool>());
}

// q|k|v of groups, composed of ATen's operators: norm of heads, rotation by complex multiplication, split.
Tensors split_plainly(const at::Tensor& raw, const Heads& h, std::int64_t first, const at::Tensor& query_weight,
                      const at::Tensor& key_weight) {
  const std::int64_t tokens = raw.size(0), dim = h.head_dim;
  const auto turn = [&](at::Tensor x, const at::Tensor& weight) {  // [T, heads, D]
    if (weight.defined()) x = x * at::rsqrt(x.square().mean(-1, true) + 1e-6) * weight;
    if (h.frequencies.empty()) return x;
    const at::Tensor frequencies = at::tensor(at::ArrayRef<float>(h.frequencies));
    const at::Tensor angle = at::outer(at::arange(first, first + tokens, at::kFloat), frequencies).to(at::kDouble);
    const at::Tensor turned = at::complex(x.narrow(2, 0, dim / 2), x.narrow(2, dim / 2, dim / 2)) *
                              at::polar(at::ones_like(angle), angle).unsqueeze(1);
    return at::cat({at::real(turned), at::imag(turned)}, 2);
  };
  const at::Tensor heads = raw.view({tokens, h.heads + 2 * h.kv_heads, dim});
  const Tensors q = turn(heads.narrow(1, 0, h.heads), query_weight).chunk(h.groups, 1);
  const Tensors k = turn(heads.narrow(1, h.heads, h.kv_heads), key_weight).chunk(h.groups, 1);
  const Tensors v = heads.narrow(1, h.heads + h.kv_heads, h.kv_heads).chunk(h.groups, 1);
  Tensors groups;
  for (std::size_t g = 0; g < q.size(); ++g) groups.push_back(at::cat({q[g], k[g], v[g]}, 1).flatten(1));
  return groups;
}

TEST_P(Kernels, SplitHeads) {
  struct Case {
    std::int64_t groups, dim, first;
    bool rotated, normed;
  };
  for (const Case& c : {Case{1, 64, 0, true, false}, Case{2, 20, 3, true, false}, Case{4, 16, 100000, true, true},
                        Case{1, 128, 7, true, true}, Case{2, 12, 0, false, false}}) {
    const std::int64_t tokens = 70, rows = (8 + 2 * 4) * c.dim, qk = (8 + 4) * c.dim;
    Heads heads{c.groups, 8, 4, c.dim, {}, {}, {}, {}};
    for (std::int64_t j = 0; c.rotated && j < c.dim / 2; ++j)
      heads.frequencies.push_back(std::pow(1e4f, -2.0f * static_cast<float>(j) / static_cast<float>(c.dim)));
    if (c.normed) {
      heads.query_norm = Norm{parameter(random({c.dim})), {}, false, 1e-6};
      heads.key_norm = Norm{parameter(random({c.dim})), {}, false, 1e-6};
    }
    const at::Tensor query_before = c.normed ? heads.query_norm->weight.gradient.clone() : at::Tensor();
    const at::Tensor key_before = c.normed ? heads.key_norm->weight.gradient.clone() : at::Tensor();
    const at::Tensor raw = random({tokens, rows});
    Tensors groups, d, wide_d;
    for (std::int64_t g = 0; g < c.groups; ++g) {
      groups.push_back(at::empty({tokens, rows / c.groups}, raw.options()));
      d.push_back(random({tokens, rows / c.groups}));
      wide_d.push_back(d.back().to(at::kDouble));
    }
    at::Tensor d_raw = at::empty_like(raw);
    split_heads(raw.narrow(1, 0, qk), raw.narrow(1, qk, rows - qk), heads, at::arange(c.first, c.first + raw.size(0)),
                groups);
    split_heads_backward(d, raw.narrow(1, 0, qk), heads, at::arange(c.first, c.first + raw.size(0)), d_raw);

    const at::Tensor wide_raw = wide(raw);
    Tensors inputs{wide_raw};
    if (c.normed)
      inputs.insert(inputs.end(), {wide(heads.query_norm->weight.value), wide(heads.key_norm->weight.value)});
    const Tensors wanted = split_plainly(wide_raw, heads, c.first, c.normed ? inputs[1] : at::Tensor(),
                                         c.normed ? inputs[2] : at::Tensor());
    for (std::size_t g = 0; g < groups.size(); ++g) EXPECT_LT(relative_error(groups[g], wanted[g]), tolerance());
    const Tensors of = grad(wanted, inputs, wide_d);
    EXPECT_LT(relative_error(d_raw, of[0]), tolerance());
    if (c.normed) {
      EXPECT_LT(relative_error(gained(heads.query_norm->weight, query_before), of[1]), 1e-6);
      EXPECT_LT(relative_error(gained(heads.key_norm->weight, key_before), of[2]), 1e-6);
    }
    if (c.groups == 1 && !c.normed) {
      split_heads(raw.narrow(1, 0, qk), raw.narrow(1, qk, rows - qk), heads, at::arange(c.first, c.first + raw.size(0)),
                  {raw});
      EXPECT_TRUE(at::equal(raw, groups[0])) << "in place";
    }
  }
}

TEST_P(Kernels, CrossEntropy) {
  for (const std::int64_t columns : {3, 1000, 4099}) {
    at::Tensor logits = random({20, columns}) * 10;
    at::Tensor targets = at::randint(columns, {20}, at::kLong);
    targets[3] = -1;
    targets[4] = -100;
    const at::Tensor wl = wide(logits), counted = targets >= 0;
    const at::Tensor wanted = at::cross_entropy_loss(wl, at::where(counted, targets, -100), {}, at::Reduction::None);
    const at::Tensor wanted_d = grad({wanted.sum() * 0.25}, {wl})[0];

    const at::Tensor losses = at::empty({20}, at::kDouble), again = at::empty({20}, at::kDouble);
    cross_entropy(logits, targets, losses);
    cross_entropy_in_place(logits, targets, 0.25, again);
    EXPECT_TRUE(losses.equal(again));
    EXPECT_LT(relative_error(losses, wanted.detach()), 1e-6);
    EXPECT_LT(relative_error(logits, wanted_d), tolerance());
  }
}

TEST_P(Kernels, MatrixProductsOnRowsOfWiderTensors) {
  const at::Tensor x = random({70, 96}).narrow(1, 32, 48), weight = random({80, 60}).narrow(1, 12, 48);
  const at::Tensor d = random({70, 80});
  at::Tensor y = at::empty({70, 80}, x.options()), dx = at::empty({70, 48}, x.options());
  at::Tensor whole = at::randn({80, 100}), gradient = whole.narrow(1, 50, 48);
  const at::Tensor before = whole.clone(), wx = x.to(at::kDouble), ww = weight.to(at::kDouble), wd = d.to(at::kDouble);
  linear(x, weight, y);
  EXPECT_LT(relative_error(y, at::mm(wx, ww.t())), tolerance());
  const at::Tensor y_before = y.to(at::kDouble);
  add_linear(x, weight, y);
  EXPECT_LT(relative_error(y, y_before + at::mm(wx, ww.t())), tolerance());
  linear_backward(d, weight, dx);
  EXPECT_LT(relative_error(dx, at::mm(wd, ww)), tolerance());
  add_weight_gradient(d, x, gradient);
  EXPECT_LT(relative_error(gradient - before.narrow(1, 50, 48), at::mm(wd.t(), wx)), 1e-6);
  EXPECT_TRUE(at::equal(whole.narrow(1, 0, 50), before.narrow(1, 0, 50)));
}

// Sizes of several tiles of product_tiles.h, the last ones smaller, against LibTorch's product of the same operands in
// float32: a result differs by the one rounding to the tensors' type.
TEST_P(Kernels, MatrixProductsOfManyRows) {
  const at::Tensor x = random({1100, 600}), weight = random({1030, 600}), d = random({1100, 1030});
  const at::Tensor wx = x.to(at::kFloat), ww = weight.to(at::kFloat), wd = d.to(at::kFloat);
  at::Tensor y = at::empty({1100, 1030}, x.options()), dx = at::empty({1100, 600}, x.options());
  linear(x, weight, y);
  EXPECT_LT(relative_error(y, at::mm(wx, ww.t())), tolerance());
  const at::Tensor before = y.to(at::kFloat, false, true);  // a copy
  add_linear(x, weight, y);
  EXPECT_LT(relative_error(y, before + at::mm(wx, ww.t())), tolerance());
  linear_backward(d, weight, dx);
  EXPECT_LT(relative_error(dx, at::mm(wd, ww)), tolerance());
  at::Tensor gradient = at::ones({1030, 600}, at::kFloat);
  add_weight_gradient(d, x, gradient);
  EXPECT_LT(relative_error(gradient, at::mm(wd.t(), wx) + 1), 1e-6);
}

TEST_P(Kernels, TablesAndBiases) {
  for (const std::int64_t columns : {10, 200}) {
    const at::Tensor embedding = random({30, columns}), positions = random({100, columns});
    const at::Tensor tokens = at::randint(30, {90}, at::kLong);  // each about three times
    at::Tensor x = at::empty({90, columns}, embedding.options());
    gather_rows(tokens, embedding, at::arange(10, 100), {}, x);
    EXPECT_TRUE(at::equal(x, embedding.index_select(0, tokens)));
    gather_rows(tokens, embedding, at::arange(10, 100), positions, x);
    EXPECT_TRUE(at::equal(x, embedding.index_select(0, tokens) + positions.narrow(0, 10, 90)));

    const at::Tensor d = random({90, columns}), start = at::randn({30, columns});
    at::Tensor gradient = start.clone();
    add_rows(tokens, d, gradient);
    EXPECT_LT(relative_error(gradient, start.to(at::kDouble).index_add(0, tokens, d.to(at::kDouble))), 1e-6);
    at::Tensor sums = start[0].clone();
    add_column_sums(d, sums);
    EXPECT_LT(relative_error(sums, start[0] + d.to(at::kDouble).sum(0)), 1e-6);

    at::Tensor y = at::empty_like(d);
    fill_rows(embedding[0], y);
    EXPECT_TRUE(at::equal(y, embedding[0].expand_as(y)));
    y.copy_(d);
    add_row(embedding[0], y);
    EXPECT_TRUE(at::equal(y, d + embedding[0]));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Kernels, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

// A weight gradient of many bfloat16 blocks is their exact sum: rounded per block to bfloat16 it would stop growing.
TEST(Kernels, WeightGradientsOfBfloat16BlocksAccumulateInFloat32) {
  const at::Tensor ones = at::ones({8, 16}, at::kBFloat16);
  at::Tensor gradient = at::zeros({16, 16}, at::kFloat);
  for (int block = 0; block < 1000; ++block) add_weight_gradient(ones, ones, gradient);
  EXPECT_TRUE(gradient.eq(8000).all().item<bool>());
}

TEST(Kernels, SumsOverRowsHaveTheSameBitsAtAnyNumberOfThreads) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({1000, 512}), d = at::randn({1000, 512});
  const int threads = at::get_num_threads();
  Tensors gradients;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    const Norm norm{{"", at::ones({512}), at::zeros({512})}, {}, false, 1e-5};
    at::Tensor dx = d.clone();
    normalise_backward(x, norm, dx);
    gradients.push_back(norm.weight.gradient);
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
  EXPECT_TRUE(at::equal(gradients[0], gradients[2]));
}

}  // namespace
}  // namespace memo::libtorch
