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
  // Calls f(T{}, n): with accesses of 16 bytes, where rows allow them, else of one value.
  template <class F>
  void with_type(bool is_wide, const F& f) const {
    const auto with = [&](auto t) {
      using T = decltype(t);
      if (is_wide)
        f(t, std::integral_constant<int, wide<T>>{});
      else
        f(t, std::integral_constant<int, 1>{});
    };
    if (GetParam() == at::kFloat) return with(float{});
    with(c10::BFloat16{});
  }
  // Calls `run`, which returns results, with both accesses: they are of the same bits. Returns them.
  template <class F>
  static std::vector<at::Tensor> with_both(const F& run) {
    const std::vector<at::Tensor> single = run(false), many = run(true);
    EXPECT_EQ(single.size(), many.size());
    for (std::size_t i = 0; i < single.size(); ++i) EXPECT_TRUE(at::equal(single[i], many[i])) << i;
    return many;
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
  const int rows = 9, columns = 200;
  for (const bool layer : {false, true}) {
    const at::Tensor x = random({rows, columns}) + 1;
    const libtorch::Norm norm{parameter(random({columns})), parameter(layer ? random({columns}) : at::Tensor()), layer,
                              1e-5};
    const at::Tensor d = random({rows, columns});
    at::Tensor wanted = at::empty_like(x), wanted_d = d.clone();
    libtorch::normalise(x, norm, wanted);
    libtorch::normalise_backward(x, norm, wanted_d);

    const auto results = with_both([&](bool is_wide) {
      const at::Tensor y = at::empty_like(x), dx = d.clone();
      const at::Tensor d_weight = at::empty({columns}), d_bias = at::zeros({columns});
      with_type(is_wide, [&](auto t, auto n) {
        using T = decltype(t);
        const T *weight = data<T>(norm.weight.value), *bias = data<T>(norm.bias.value);
        std::vector<Statistics> of_rows;
        for (int r = 0; r < rows; ++r) {
          norm_row<n>(HostTeam{}, data<T>(x) + r * columns, weight, bias, data<T>(y) + r * columns, columns, layer,
                      1e-5f);
          of_rows.push_back(statistics<n>(HostTeam{}, data<T>(x) + r * columns, columns, layer, 1e-5f));
        }
        for (int i = 0; i < columns; i += n)
          norm_columns<n>(data<T>(x), data<T>(d), of_rows.data(), rows, columns, i, data<float>(d_weight),
                          layer ? data<float>(d_bias) : nullptr);
        for (int r = 0; r < rows; ++r)
          norm_backward_row<n>(HostTeam{}, data<T>(x) + r * columns, weight, data<T>(dx) + r * columns,
                               of_rows[static_cast<std::size_t>(r)], columns, layer);
      });
      return std::vector{y, dx, d_weight, d_bias};
    });
    const at::Tensor &y = results[0], &dx = results[1], &d_weight = results[2], &d_bias = results[3];
    EXPECT_LT(difference(y, wanted), tolerance());
    EXPECT_LT(difference(dx, wanted_d), tolerance());
    EXPECT_LT(difference(d_weight, norm.weight.gradient), tolerance());
    if (layer) {
      EXPECT_LT(difference(d_bias, norm.bias.gradient), tolerance());
    }
  }
}

TEST_P(Rows, Activations) {
  for (const std::int64_t columns : {40, 33}) {  // the latter have no accesses of 16 bytes
    const std::int64_t rows = 5;
    for (const auto activation : {model::Activation::silu, model::Activation::gelu_tanh}) {
      const bool gated = activation == model::Activation::silu;
      const std::int64_t inner = columns * (gated ? 2 : 1);
      const at::Tensor h = random({rows, inner}) * 3, da = random({rows, columns});
      at::Tensor wanted = at::empty_like(da), wanted_a = da.clone(), wanted_dh = at::empty_like(h);
      libtorch::activate(h, activation, wanted);
      libtorch::activate_backward(h, activation, wanted_a, wanted_dh);
      const auto results = with_both([&](bool is_wide) {
        const at::Tensor a = at::empty_like(da), back = da.clone(), dh = at::empty_like(h);
        with_type(is_wide && columns == 40, [&](auto t, auto n) {
          using T = decltype(t);
          EXPECT_EQ(all_wide<T>(columns, data<T>(h), data<T>(a)), columns == 40);
          for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t i = 0; i < columns; i += n) {
              const std::int64_t first = r * inner + i, of_a = r * columns + i;
              const T* gate = data<T>(h) + first;
              T* d_gate = data<T>(dh) + first;
              if (gated) {
                silu_values<n>(gate, gate + columns, data<T>(a) + of_a);
                silu_backward_values<n>(gate, gate + columns, data<T>(back) + of_a, d_gate, d_gate + columns);
              } else {
                gelu_values<n>(gate, data<T>(a) + of_a);
                gelu_backward_values<n>(gate, data<T>(back) + of_a, d_gate);
              }
            }
        });
        return std::vector{a, back, dh};
      });
      EXPECT_LT(difference(results[0], wanted), tolerance());
      EXPECT_LT(difference(results[1], wanted_a), tolerance());
      EXPECT_LT(difference(results[2], wanted_dh), tolerance());
    }
  }
}

TEST_P(Rows, HeadsAreNormedAndTurned) {
  const int tokens = 7, dim = 16;
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

    const auto results = with_both([&](bool is_wide) {
      const at::Tensor y = at::empty({tokens, dim}, raw.options()), dx = at::empty_like(y);
      const at::Tensor d_weight = at::zeros({tokens, dim});
      with_type(is_wide, [&](auto t, auto n) {
        using T = decltype(t);
        for (std::int64_t r = 0; r < tokens; ++r) {
          const Head<T> head{heads.frequencies.data(),
                             heads.rotation_scale,
                             positions[r].item<std::int64_t>(),
                             normed ? data<T>(heads.query_norm->weight.value) : nullptr,
                             1e-6f,
                             dim};
          const T* x = data<T>(qk) + r * 2 * dim;
          turn_head<n>(HostTeam{}, head, x, data<T>(y) + r * dim);
          turn_head_backward<n>(HostTeam{}, head, data<T>(d) + r * 3 * dim, x, data<T>(dx) + r * dim,
                                data<float>(d_weight) + r * dim);
        }
      });
      return std::vector{y, dx, d_weight};
    });
    const at::Tensor &y = results[0], &dx = results[1], &d_weight = results[2];
    EXPECT_LT(difference(y, wanted.narrow(1, 0, dim)), tolerance());
    EXPECT_LT(difference(dx, wanted_raw.narrow(1, 0, dim)), tolerance());
    if (normed) {
      EXPECT_LT(difference(d_weight.sum(0), heads.query_norm->weight.gradient), tolerance());
    }
  }
}

TEST_P(Rows, CrossEntropy) {
  const int rows = 6, columns = 1000;
  const at::Tensor logits = random({rows, columns}) * 5;
  at::Tensor targets = at::randint(columns, {rows}, at::kLong);
  targets[2] = -1;
  at::Tensor wanted_d = logits.clone();
  const at::Tensor wanted = at::empty({rows}, at::kDouble);
  libtorch::cross_entropy_in_place(wanted_d, targets, 0.25, wanted);
  const auto results = with_both([&](bool is_wide) {
    const at::Tensor both = logits.clone(), losses = at::empty({rows}, at::kDouble);
    with_type(is_wide, [&](auto t, auto n) {
      using T = decltype(t);
      for (int r = 0; r < rows; ++r)
        cross_entropy_row<n>(HostTeam{}, data<T>(both) + r * columns, targets[r].item<std::int64_t>(), columns, true,
                             0.25f, data<double>(losses) + r);
    });
    return std::vector{losses, both};
  });
  EXPECT_LT(difference(results[0], wanted), 1e-6);
  EXPECT_LT(difference(results[1], wanted_d), tolerance());
}

// Where rows do not begin at multiples of 16 bytes.
TEST(AllWide, LooksAtWidthsAndAddresses) {
  alignas(16) const float row[16] = {};
  EXPECT_TRUE(all_wide<float>(12, row, row + 4));
  EXPECT_FALSE(all_wide<float>(13, row));
  EXPECT_FALSE(all_wide<float>(12, row, row + 1));
  EXPECT_TRUE(all_wide<float>(12, row, static_cast<const float*>(nullptr))) << "of a norm without bias";
  EXPECT_FALSE(all_wide<c10::BFloat16>(12, row)) << "8 values of bfloat16";
}

INSTANTIATE_TEST_SUITE_P(DTypes, Rows, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace memo::kernels
