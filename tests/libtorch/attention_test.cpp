// Attention against its definition in float64 under autograd and against ATen's flash attention; the same bits whatever
// the threads, the run and the range of queries; on every instruction set; in few and linear allocations.
#include "memo/libtorch/kernels/attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/generated/variable_factories.h>

#include <atomic>
#include <vector>

#include "memo/libtorch/kernels/attention_kernels.h"
#include "memo/libtorch/memory/allocator.h"

namespace memo::libtorch {
namespace {

struct Case {
  GroupHeads heads;
  std::int64_t tokens;
  std::vector<std::int64_t> document_starts = {};
  std::int64_t window = 0;
  std::vector<std::uint8_t> hidden = {};
  std::int64_t row = 0;
  [[nodiscard]] Mask mask() const { return {document_starts, window, hidden, row}; }
};

// Of these tokens the keys in the ranges [first, last) are hidden.
std::vector<std::uint8_t> hidden_in(std::int64_t tokens, const std::vector<QueryRange>& ranges) {
  std::vector<std::uint8_t> result(static_cast<std::size_t>(tokens));
  for (const auto& [first, last] : ranges) std::fill(result.begin() + first, result.begin() + last, 1);
  return result;
}

const std::vector<Case>& cases() {
  static const std::vector<std::int64_t> documents{0, 1, 70, 71, 128, 300};
  static const std::vector<Case> all{
      {{2, 1, 64}, 333},
      {{1, 1, 8}, 1},
      {{4, 4, 80}, 200},
      {{6, 1, 72}, 257},
      {{2, 1, 256}, 130},
      {{2, 1, 13}, 100},
      {{4, 2, 128}, 400, documents},
      {{2, 1, 64}, 640, {0, 64, 128, 256, 640}},
      {{2, 2, 96}, 400, documents, 50},
      {{3, 1, 32}, 500, {}, 129},
      {{2, 1, 64}, 150, {}, 1},
      {{2, 1, 64, 0.5F}, 333},
      {{4, 2, 80, 3.0F}, 400, documents, 50},
      // Padding on the left, on the right, between tokens, of a whole row, of all but one token; with a window, and
      // chunks.
      {{2, 1, 64}, 450, {0, 150, 300}, 0, hidden_in(450, {{0, 70}, {250, 300}, {310, 311}, {370, 390}})},
      {{4, 2, 80}, 400, {0, 100, 200, 300}, 30, hidden_in(400, {{0, 41}, {140, 200}, {200, 300}, {301, 400}})},
      {{2, 2, 96, 0.5F}, 333, {0, 7, 57, 107, 157, 207, 257}, 0, hidden_in(333, {{0, 7}, {130, 260}, {332, 333}})},
      {{3, 1, 32}, 200, {}, 1, hidden_in(200, {{3, 5}, {64, 128}, {199, 200}})},
      {{2, 1, 64}, 130, {}, 0, hidden_in(130, {{0, 130}})},
      // Queries that see no key attend to their row alike.
      {{4, 2, 80}, 450, {0, 150, 220, 300}, 0, hidden_in(450, {{0, 70}, {250, 300}, {300, 303}}), 150},
      {{2, 1, 64, 0.5F}, 700, {0, 350}, 20, hidden_in(700, {{0, 301}, {400, 640}}), 350},
  };
  return all;
}

struct Operands {
  at::Tensor qkv, d_o;
};

// Rows of qkv are longer than their columns.
Operands random_operands(const Case& c, at::ScalarType dtype) {
  at::manual_seed(3);
  const auto [queries, keys, dim, softcap] = c.heads;
  const std::int64_t columns = (queries + 2 * keys) * dim;
  const at::Tensor wide = at::randn({c.tokens, columns + 8}).to(dtype);
  return {wide.narrow(1, 0, columns), at::randn({c.tokens, queries * dim}).to(dtype)};
}

struct Results {
  at::Tensor o, lse, dq, dk, dv;
  [[nodiscard]] std::vector<std::pair<const char*, at::Tensor>> named() const {
    return {{"o", o}, {"lse", lse}, {"dq", dq}, {"dk", dk}, {"dv", dv}};
  }
};

Results ours(const Case& c, const Operands& given) {
  Results r;
  std::tie(r.o, r.lse) = causal_attention(given.qkv, c.heads, c.mask());
  std::tie(r.dq, r.dk, r.dv) = causal_attention_backward(given.d_o, given.qkv, r.o, r.lse, c.heads, c.mask());
  return r;
}

// [S, heads dim] -> [heads, S, dim]
at::Tensor heads_of(const at::Tensor& rows, std::int64_t heads) {
  return rows.reshape({rows.size(0), heads, rows.size(1) / heads}).transpose(0, 1);
}
at::Tensor rows_of(const at::Tensor& heads) { return heads.transpose(0, 1).reshape({heads.size(1), -1}); }

Results definition(const Case& c, const Operands& given) {
  const auto [queries, keys, dim, softcap] = c.heads;
  const auto columns = [&, d = dim](std::int64_t first, std::int64_t heads) {
    return given.qkv.narrow(1, first * d, heads * d).to(at::kDouble).detach().requires_grad_();
  };
  const at::Tensor q = columns(0, queries), k = columns(queries, keys), v = columns(queries + keys, keys);
  const auto shared = [&, n = keys, group = queries / keys](const at::Tensor& x) {
    return heads_of(x, n).repeat_interleave(group, 0);
  };
  const at::Tensor key = at::arange(c.tokens), query = key.unsqueeze(1);
  at::Tensor visible = key <= query;
  if (c.window > 0) visible = visible & (key > query - c.window);
  at::Tensor document = at::zeros({c.tokens}, at::kLong);
  for (const std::int64_t start : c.document_starts) document += key >= start;
  visible = visible & (document == document.unsqueeze(1));
  for (std::size_t i = 0; i < c.hidden.size(); ++i)
    if (c.hidden[i]) visible.select(1, static_cast<std::int64_t>(i)).fill_(false);
  at::Tensor scores = at::matmul(heads_of(q, queries), shared(k).transpose(1, 2)) / std::sqrt(double(dim));
  if (softcap > 0) scores = at::tanh(scores / softcap) * softcap;
  constexpr double low = -1e300, none = -std::numeric_limits<double>::infinity();
  at::Tensor p;
  if (c.row > 0) {
    const at::Tensor row = key.div(c.row, "floor"), others = row != row.unsqueeze(1);
    const at::Tensor added = at::zeros_like(scores).masked_fill(~visible, low);
    p = at::softmax((scores + added).masked_fill(others, none), -1);
  } else {
    p = at::softmax(scores.masked_fill(~visible, low), -1) * visible;
  }
  const at::Tensor o = rows_of(at::matmul(p, shared(v)));
  const auto gradients = torch::autograd::grad({o}, {q, k, v}, {given.d_o.to(at::kDouble)}, {}, false, true);
  const at::Tensor lse = at::logsumexp(scores.detach().masked_fill(~visible, none), -1).t();
  return {o.detach(), lse.masked_fill(lse == none, -none), gradients[0], gradients[1], gradients[2]};
}

Results flash_of_aten(const Case& c, const Operands& given) {
  const auto [queries, keys, dim, softcap] = c.heads;
  const auto columns = [&, d = dim](std::int64_t first, std::int64_t heads) {
    return heads_of(given.qkv.narrow(1, first * d, heads * d), heads).unsqueeze(0);
  };
  const at::Tensor q = columns(0, queries), k = columns(queries, keys), v = columns(queries + keys, keys);
  const auto [o, lse] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true);
  const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      heads_of(given.d_o, queries).unsqueeze(0), q, k, v, o, lse, 0.0, true);
  return {rows_of(o[0]), lse[0].t(), rows_of(dq[0]), rows_of(dk[0]), rows_of(dv[0])};
}

// Log-sum-exps of queries that see no key are infinite.
at::Tensor finite(const at::Tensor& tensor) { return tensor.masked_fill(tensor.isinf(), 0); }

double error(const at::Tensor& given, const at::Tensor& exact) {
  EXPECT_EQ(given.sizes(), exact.sizes());
  EXPECT_TRUE(at::equal(given.isinf(), exact.isinf()));
  return (finite(given.to(at::kDouble)) - finite(exact)).abs().max().item<double>();
}

void expect_near(const Results& given, const Results& exact, double tolerance) {
  const auto names = exact.named(), values = given.named();
  for (std::size_t i = 0; i < names.size(); ++i)
    EXPECT_LE(error(values[i].second, names[i].second),
              tolerance * (1 + finite(names[i].second).abs().max().item<double>()))
        << names[i].first;
}

void expect_same_bits(const Results& a, const Results& b) {
  const auto names = a.named(), others = b.named();
  for (std::size_t i = 0; i < names.size(); ++i)
    EXPECT_TRUE(at::equal(names[i].second, others[i].second)) << names[i].first;
}

class Attention : public testing::TestWithParam<std::tuple<std::size_t, at::ScalarType>> {
 protected:
  const Case& c = cases()[std::get<0>(GetParam())];
  const at::ScalarType dtype = std::get<1>(GetParam());
  const Operands operands = random_operands(c, dtype);
};
INSTANTIATE_TEST_SUITE_P(All, Attention,
                         testing::Combine(testing::Range<std::size_t>(0, cases().size()),
                                          testing::Values(at::kFloat, at::kBFloat16)));

TEST_P(Attention, IsItsDefinition) {
  expect_near(ours(c, operands), definition(c, operands), dtype == at::kFloat ? 4e-6 : 8e-3);
}

TEST_P(Attention, ErrsNoMoreThanAten) {
  if (!c.document_starts.empty() || c.window > 0 || c.heads.softcap > 0 || !c.hidden.empty())
    GTEST_SKIP() << "ATen's knows causal masks only";
  const Results exact = definition(c, operands);
  const auto names = exact.named(), our = ours(c, operands).named(), aten = flash_of_aten(c, operands).named();
  for (std::size_t i = 0; i < names.size(); ++i)
    EXPECT_LE(error(our[i].second, names[i].second), 2 * error(aten[i].second, names[i].second) + 2e-7)
        << names[i].first;
}

TEST_P(Attention, GivesTheSameBitsOnAnyThreads) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Results alone = ours(c, operands);
  for (const int threads : {2, 3, 3, 1}) {
    at::set_num_threads(threads);
    expect_same_bits(ours(c, operands), alone);
  }
  at::set_num_threads(before);
}

TEST_P(Attention, OfSomeQueriesGivesTheSameBits) {
  if (c.row > 0) GTEST_SKIP() << "all keys of a row are needed";
  const auto [o, lse] = causal_attention(operands.qkv, c.heads, c.mask());
  for (const auto& [first, last] : {std::pair<std::int64_t, std::int64_t>{0, c.tokens / 3},
                                    {c.tokens / 3, c.tokens},
                                    {c.tokens / 2, c.tokens / 2 + 1},
                                    {c.tokens, c.tokens}}) {
    const at::Tensor known = operands.qkv.narrow(0, 0, last);  // later rows do not matter
    const auto [some, some_lse] = causal_attention(known, c.heads, c.mask(), QueryRange{first, last});
    EXPECT_TRUE(at::equal(some, o.narrow(0, first, last - first)));
    EXPECT_TRUE(at::equal(some_lse, lse.narrow(0, first, last - first)));
  }
}

template <class T>
Results on(const attention::Kernels<T>& kernels, const Case& c, const Operands& given) {
  const auto rows = []<class E>(const at::Tensor& x, E*) {
    return attention::Rows<E>{static_cast<E*>(x.data_ptr()), x.stride(0)};
  };
  const T* in = nullptr;
  T* out = nullptr;
  float* sums = nullptr;
  const auto [queries, keys, dim, softcap] = c.heads;
  const auto f32 = at::TensorOptions().dtype(at::kFloat);
  const Visibility visible(c.mask(), c.tokens);
  Results r{at::empty({c.tokens, queries * dim}, given.qkv.options()), at::empty({c.tokens, queries}, f32),
            at::empty({c.tokens, queries * dim}, given.qkv.options()),
            at::empty({c.tokens, keys * dim}, given.qkv.options()),
            at::empty({c.tokens, keys * dim}, given.qkv.options())};
  const at::Tensor work =
      at::empty({std::max(attention::forward_floats(c.heads), attention::backward_floats(c.heads))}, f32);
  const attention::Forward<T> f{c.heads, visible, 0, c.tokens, rows(given.qkv, in), rows(r.o, out), rows(r.lse, sums)};
  for (std::int64_t task = 0; task < attention::forward_tasks(c.heads, 0, c.tokens); ++task)
    kernels.forward(f, task, work.data_ptr<float>());
  const at::Tensor delta = at::empty({c.tokens, queries}, f32), sum = at::empty({c.tokens, queries * dim}, f32);
  const attention::Backward<T> b{c.heads,
                                 visible,
                                 c.tokens,
                                 rows(given.d_o, in),
                                 rows(given.qkv, in),
                                 rows(r.o, in),
                                 {r.lse.data_ptr<float>(), r.lse.stride(0)},
                                 rows(delta, sums),
                                 rows(sum, sums),
                                 rows(r.dq, out),
                                 rows(r.dk, out),
                                 rows(r.dv, out)};
  kernels.prepare(b, 0, c.tokens);
  std::vector<std::atomic<std::int32_t>> progress(
      static_cast<std::size_t>(attention::backward_tasks(c.heads, c.tokens)));
  for (std::size_t task = 0; task < progress.size(); ++task)
    kernels.backward(b, static_cast<std::int64_t>(task), work.data_ptr<float>(), progress.data());
  return r;
}

TEST_P(Attention, IsItsDefinitionOnEveryInstructionSet) {
  if (c.row > 0) GTEST_SKIP() << "not the kernels' work";
  const Results exact = definition(c, operands);
  const auto check = [&](const auto& all, double tolerance) {
    for (const auto& kernels : all) expect_near(on(kernels, c, operands), exact, tolerance);
  };
  if (dtype == at::kFloat)
    check(attention::kernels<float>(), 4e-6);
  else
    check(attention::kernels<std::uint16_t>(), 8e-3);
}

TEST(AttentionNumerics, LargeScoresAndNotANumber) {
  const Case c{{1, 1, 64}, 200};
  Operands given = random_operands(c, at::kFloat);
  given.qkv.narrow(1, 0, 64).mul_(40);  // scores up to hundreds: most probabilities are exactly 0
  expect_near(ours(c, given), definition(c, given), 2e-5);
  given.qkv[100][3] = std::numeric_limits<float>::quiet_NaN();  // of query 100
  const auto [o, lse] = causal_attention(given.qkv, c.heads);
  EXPECT_TRUE(lse[100].isnan().all().item<bool>());
  EXPECT_TRUE(o[100].isnan().all().item<bool>());
  EXPECT_FALSE(o.narrow(0, 0, 100).isnan().any().item<bool>());
}

TEST(AttentionMemory, IsFewRequestsLinearInTheTokens) {
  install_allocator();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    std::vector<std::vector<std::int64_t>> sizes;
    for (const std::int64_t tokens : {200, 300, 400}) {
      const Case c{{2, 1, 64}, tokens};
      const Operands given = random_operands(c, dtype);
      RecordingScope recording;
      const Results results = ours(c, given);
      sizes.emplace_back();
      for (const AllocationEvent& event : recording.events())
        if (event.is_malloc) sizes.back().push_back(event.bytes.value());
    }
    EXPECT_EQ(sizes[0].size(), dtype == at::kFloat ? 8 : 9);  // the results, delta, the sum of dq, two of work
    ASSERT_EQ(sizes[0].size(), sizes[1].size());
    ASSERT_EQ(sizes[0].size(), sizes[2].size());
    for (std::size_t i = 0; i < sizes[0].size(); ++i)
      EXPECT_EQ(sizes[1][i] - sizes[0][i], sizes[2][i] - sizes[1][i]) << "request " << i;
  }
}

}  // namespace
}  // namespace memo::libtorch
