// The GPU's kernels, by a team of one on the host, against the CPU's: one mathematics, two implementations.
#include "memo/kernels/rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "memo/libtorch/kernels/kernels.h"

namespace memo::kernels {
namespace {

class Rows : public testing::TestWithParam<at::ScalarType> {
 protected:
  Rows() { at::manual_seed(1); }
  [[nodiscard]] at::Tensor random(at::IntArrayRef sizes) const { return at::randn(sizes).to(GetParam()); }
  [[nodiscard]] double tolerance() const { return GetParam() == at::kFloat ? 2e-6 : 1e-2; }
  template <class F>
  void with_type(const F& f) const {
    if (GetParam() == at::kFloat) return f(float{});
    f(c10::BFloat16{});
  }
  // The largest difference, over the largest value.
  static double difference(const at::Tensor& a, const at::Tensor& b) {
    return ((a.to(at::kDouble) - b.to(at::kDouble)).abs().max() / b.to(at::kDouble).abs().max()).item<double>();
  }
  template <class T>
  static T* data(const at::Tensor& tensor) {
    return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
  }
};

libtorch::Parameter parameter(const at::Tensor& value) {
  return {"", value, value.defined() ? at::zeros(value.sizes(), at::kFloat) : at::Tensor()};
}

TEST_P(Rows, Norms) {
  const std::int64_t rows = 9, columns = 200;
  for (const bool layer : {false, true}) {
    const at::Tensor x = random({rows, columns}) + 1;
    const libtorch::Norm norm{parameter(random({columns})), parameter(layer ? random({columns}) : at::Tensor()), layer,
                              1e-5};
    const at::Tensor d = random({rows, columns});
    at::Tensor wanted = at::empty_like(x), wanted_d = d.clone();
    libtorch::normalise(x, norm, wanted);
    libtorch::normalise_backward(x, norm, wanted_d);

    const at::Tensor y = at::empty_like(x), dx = d.clone();
    at::Tensor d_weight = at::empty({columns}), d_bias = at::empty({columns});
    with_type([&](auto t) {
      using T = decltype(t);
      const T *weight = data<T>(norm.weight.value), *bias = data<T>(norm.bias.value);
      std::vector<Statistics> of_rows;
      for (std::int64_t r = 0; r < rows; ++r) {
        norm_row(HostTeam{}, data<T>(x) + r * columns, weight, bias, data<T>(y) + r * columns, columns, layer, 1e-5f);
        of_rows.push_back(statistics(HostTeam{}, data<T>(x) + r * columns, columns, layer, 1e-5f));
      }
      for (std::int64_t i = 0; i < columns; ++i)
        norm_column(data<T>(x), data<T>(d), of_rows.data(), rows, columns, i, data<float>(d_weight),
                    layer ? data<float>(d_bias) : nullptr);
      for (std::int64_t r = 0; r < rows; ++r)
        norm_backward_row(HostTeam{}, data<T>(x) + r * columns, weight, data<T>(dx) + r * columns,
                          of_rows[static_cast<std::size_t>(r)], columns, layer);
    });
    EXPECT_LT(difference(y, wanted), tolerance());
    EXPECT_LT(difference(dx, wanted_d), tolerance());
    EXPECT_LT(difference(d_weight, norm.weight.gradient), tolerance());
    if (layer) {
      EXPECT_LT(difference(d_bias, norm.bias.gradient), tolerance());
    }
  }
}

TEST_P(Rows, Activations) {
  const std::int64_t rows = 5, columns = 33;
  for (const auto activation : {model::Activation::silu, model::Activation::gelu_tanh}) {
    const bool gated = activation == model::Activation::silu;
    const at::Tensor h = random({rows, columns * (gated ? 2 : 1)}) * 3, da = random({rows, columns});
    at::Tensor wanted = at::empty_like(da), wanted_a = da.clone(), wanted_dh = at::empty_like(h);
    libtorch::activate(h, activation, wanted);
    libtorch::activate_backward(h, activation, wanted_a, wanted_dh);
    const at::Tensor a = at::empty_like(da), back = da.clone(), dh = at::empty_like(h);
    with_type([&](auto t) {
      using T = decltype(t);
      for (std::int64_t i = 0; i < rows * columns; ++i) {
        if (gated) {
          silu_value(data<T>(h), data<T>(a), columns, i / columns, i % columns);
          silu_backward_value(data<T>(h), data<T>(back), data<T>(dh), columns, i / columns, i % columns);
        } else {
          gelu_value(data<T>(h), data<T>(a), i);
          gelu_backward_value(data<T>(h), data<T>(back), data<T>(dh), i);
        }
      }
    });
    EXPECT_LT(difference(a, wanted), tolerance());
    EXPECT_LT(difference(back, wanted_a), tolerance());
    EXPECT_LT(difference(dh, wanted_dh), tolerance());
  }
}

TEST_P(Rows, HeadsAreNormedAndTurned) {
  const std::int64_t tokens = 7, dim = 16;
  for (const bool normed : {false, true}) {
    libtorch::Heads heads{1, 1, 1, dim, {}, {}, {}, {}, normed ? 1.0f : 1.25f};
    for (int j = 0; j < dim / 2; ++j)
      heads.frequencies.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(j) / dim));
    if (normed) {
      heads.query_norm = libtorch::Norm{parameter(random({dim})), {}, false, 1e-6};
      heads.key_norm = libtorch::Norm{parameter(random({dim})), {}, false, 1e-6};
    }
    const at::Tensor positions = at::randint(1 << 17, {tokens}, at::kLong);
    const at::Tensor raw = random({tokens, 3 * dim}), d = random({tokens, 3 * dim});
    const at::Tensor qk = raw.narrow(1, 0, 2 * dim).contiguous();
    at::Tensor wanted = at::empty_like(raw), wanted_raw = at::empty_like(raw);
    libtorch::split_heads(qk, raw.narrow(1, 2 * dim, dim), heads, positions, {wanted});
    libtorch::split_heads_backward({d}, qk, heads, positions, wanted_raw);

    at::Tensor y = at::empty({tokens, dim}, raw.options()), dx = at::empty_like(y), d_weight = at::zeros({tokens, dim});
    with_type([&](auto t) {
      using T = decltype(t);
      for (std::int64_t r = 0; r < tokens; ++r) {
        const Head<T> head{heads.frequencies.data(),
                           heads.rotation_scale,
                           positions[r].item<std::int64_t>(),
                           normed ? data<T>(heads.query_norm->weight.value) : nullptr,
                           1e-6f,
                           dim};
        const T* x = data<T>(qk) + r * 2 * dim;
        turn_head(HostTeam{}, head, x, data<T>(y) + r * dim);
        turn_head_backward(HostTeam{}, head, data<T>(d) + r * 3 * dim, x, data<T>(dx) + r * dim,
                           data<float>(d_weight) + r * dim);
      }
    });
    EXPECT_LT(difference(y, wanted.narrow(1, 0, dim)), tolerance());
    EXPECT_LT(difference(dx, wanted_raw.narrow(1, 0, dim)), tolerance());
    if (normed) {
      EXPECT_LT(difference(d_weight.sum(0), heads.query_norm->weight.gradient), tolerance());
    }
  }
}

TEST_P(Rows, CrossEntropy) {
  const std::int64_t rows = 6, columns = 1000;
  const at::Tensor logits = random({rows, columns}) * 5;
  at::Tensor targets = at::randint(columns, {rows}, at::kLong);
  targets[2] = -1;
  at::Tensor wanted_d = logits.clone();
  const at::Tensor wanted = at::empty({rows}, at::kDouble), losses = at::empty({rows}, at::kDouble);
  libtorch::cross_entropy_in_place(wanted_d, targets, 0.25, wanted);
  with_type([&](auto t) {
    using T = decltype(t);
    for (std::int64_t r = 0; r < rows; ++r)
      cross_entropy_row(HostTeam{}, data<T>(logits) + r * columns, targets[r].item<std::int64_t>(), columns, true,
                        0.25f, data<double>(losses) + r);
  });
  EXPECT_LT(difference(losses, wanted), 1e-6);
  EXPECT_LT(difference(logits, wanted_d), tolerance());
}

INSTANTIATE_TEST_SUITE_P(DTypes, Rows, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace memo::kernels
