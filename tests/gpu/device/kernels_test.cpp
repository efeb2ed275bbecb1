// Every kernel of a GPU's table against the CPU's, on the same operands: one mathematics, two devices. `make gpu` runs
// this on a GPU, and other tests on the emulated one. Sizes are no multiples of what a kernel works in.
#include "memo/libtorch/kernels/kernels.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "memo/libtorch/kernels/attention_table.h"
#include "memo/libtorch/measure/attention_choice.h"
#include "memo/libtorch/memory/device_kind.h"

namespace memo::libtorch {
namespace {

// The largest difference, over the largest value.
double difference(const at::Tensor& there, const at::Tensor& here) {
  const at::Tensor a = there.cpu().to(at::kDouble), b = here.to(at::kDouble);
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

class OnTheGpu : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    ASSERT_NE(kind_of(c10::kCUDA), nullptr) << "a build without a GPU";
    device_ = std::make_unique<Result<std::unique_ptr<Device>>>(open_device(place()));
    if (!*device_) GTEST_SKIP() << device_->error().message;
    at::manual_seed(1);
  }
  static c10::Device place() { return {c10::kCUDA, 0}; }
  [[nodiscard]] at::Tensor random(at::IntArrayRef sizes) const { return at::randn(sizes).to(GetParam()); }
  static at::Tensor there(const at::Tensor& here) { return here.defined() ? here.to(place()) : here; }
  static Parameter there(const Parameter& here) { return {"", there(here.value), there(here.gradient)}; }
  static Norm there(const Norm& here) { return {there(here.weight), there(here.bias), here.layer, here.eps}; }
  static Parameter parameter(const at::Tensor& value) {
    return {"", value, value.defined() ? at::zeros(value.sizes(), at::kFloat) : at::Tensor()};
  }
  [[nodiscard]] Device& device() const { return **device_->operator->(); }
  void expect_near(const at::Tensor& there, const at::Tensor& here, const char* what) const {
    EXPECT_TRUE(there.is_cuda()) << what;
    EXPECT_LT(difference(there, here), GetParam() == at::kFloat ? 2e-5 : 2e-2) << what;
  }

 private:
  std::unique_ptr<Result<std::unique_ptr<Device>>> device_;
};

TEST_P(OnTheGpu, LooksForPoisonFindTheFirstWordOfTheFirstLook) {
  at::Tensor memory = at::zeros({4000}, at::dtype(at::kLong).device(place()));
  const auto find = [&](std::int64_t first, std::int64_t second) {
    const auto* from = static_cast<const std::byte*>(memory.data_ptr());
    return run_on(device(), [&] {
      for (const std::int64_t number : {first, second})
        EXPECT_TRUE(device().bytes().look({from + number * 8, Bytes(64), 400}, number));
      return device().bytes().found().value();
    });
  };
  EXPECT_FALSE(find(0, 1).has_value());
  memory[8 * 399 + 1] = -1, memory[8 * 300 + 1] = -1, memory[3] = -1;
  const std::optional<exec::Found> found = find(1, 3);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->look, 1);
  EXPECT_EQ(found->word, 300);
  EXPECT_EQ(find(2, 3)->look, 3);
  EXPECT_FALSE(find(4, 5).has_value());
}

TEST_P(OnTheGpu, Products) {
  const at::Tensor x = random({100, 72}), w = random({56, 72}), d = random({100, 56});
  const at::Tensor gx = there(x), gw = there(w), gd = there(d);
  at::Tensor y = at::empty({100, 56}, x.options()), dx = at::empty_like(x), sum = at::randn({56, 72});
  at::Tensor gy = at::empty({100, 56}, gx.options()), gdx = at::empty_like(gx), gsum = there(sum);
  linear(x, w, y), linear(gx, gw, gy);
  expect_near(gy, y, "linear");
  add_linear(x, w, y), add_linear(gx, gw, gy);
  expect_near(gy, y, "add_linear");
  linear_backward(d, w, dx), linear_backward(gd, gw, gdx);
  expect_near(gdx, dx, "linear_backward");
  add_weight_gradient(d, x, sum), add_weight_gradient(gd, gx, gsum);
  expect_near(gsum, sum, "add_weight_gradient");
}

TEST_P(OnTheGpu, Norms) {
  for (const bool layer : {false, true}) {
    for (const std::int64_t rows : {9, 131}) {
      const std::int64_t columns = 200 + 7 * rows;
      const at::Tensor x = random({rows, columns}) + 1;
      const Norm norm{parameter(random({columns})), parameter(layer ? random({columns}) : at::Tensor()), layer, 1e-5};
      const Norm gnorm = there(norm);
      const at::Tensor gx = there(x);
      at::Tensor y = at::empty_like(x), d = random({rows, columns}), gy = at::empty_like(gx), gd = there(d);
      normalise(x, norm, y), normalise(gx, gnorm, gy);
      expect_near(gy, y, "normalise");
      normalise_backward(x, norm, d), normalise_backward(gx, gnorm, gd);
      expect_near(gd, d, "normalise_backward");
      expect_near(gnorm.weight.gradient, norm.weight.gradient, "the weight's gradient");
      if (layer) expect_near(gnorm.bias.gradient, norm.bias.gradient, "the bias's gradient");
    }
  }
}

TEST_P(OnTheGpu, Activations) {
  for (const auto activation : {model::Activation::silu, model::Activation::gelu_tanh}) {
    const std::int64_t rows = 77, columns = 333;
    const at::Tensor h = random({rows, columns * (activation == model::Activation::silu ? 2 : 1)}) * 3, gh = there(h);
    at::Tensor a = at::empty({rows, columns}, h.options()), ga = at::empty({rows, columns}, gh.options());
    activate(h, activation, a), activate(gh, activation, ga);
    expect_near(ga, a, "activate");
    at::Tensor d = random({rows, columns}), dh = at::empty_like(h), gd = there(d), gdh = at::empty_like(gh);
    activate_backward(h, activation, d, dh), activate_backward(gh, activation, gd, gdh);
    expect_near(gd, d, "a of activate_backward");
    expect_near(gdh, dh, "activate_backward");
  }
}

TEST_P(OnTheGpu, Heads) {
  const std::int64_t tokens = 37, dim = 16;
  for (const bool normed : {false, true}) {
    libtorch::Heads heads{2, 4, 2, dim, {}, {}, {}, {}, normed ? 1.0f : 1.25f};
    for (int j = 0; j < dim / 2; ++j)
      heads.frequencies.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(j) / static_cast<float>(dim)));
    if (normed) {
      heads.query_norm = Norm{parameter(random({dim})), {}, false, 1e-6};
      heads.key_norm = Norm{parameter(random({dim})), {}, false, 1e-6};
    }
    libtorch::Heads gheads = heads;
    gheads.frequencies_there = there(at::tensor(heads.frequencies));
    if (normed) gheads.query_norm = there(*heads.query_norm), gheads.key_norm = there(*heads.key_norm);
    const at::Tensor positions = at::randint(1 << 17, {tokens}, at::kLong), gpositions = there(positions);
    const at::Tensor raw = random({tokens, 8 * dim}), graw = there(raw);
    const auto halves = [&](const at::Tensor& like) {
      return std::vector{at::empty({tokens, 4 * dim}, like.options()), at::empty({tokens, 4 * dim}, like.options())};
    };
    const std::vector<at::Tensor> groups = halves(raw), ggroups = halves(graw);
    split_heads(raw.narrow(1, 0, 6 * dim), raw.narrow(1, 6 * dim, 2 * dim), heads, positions, groups);
    split_heads(graw.narrow(1, 0, 6 * dim), graw.narrow(1, 6 * dim, 2 * dim), gheads, gpositions, ggroups);
    for (std::size_t g = 0; g < 2; ++g) expect_near(ggroups[g], groups[g], "split_heads");
    at::Tensor back = at::empty_like(raw), gback = at::empty_like(graw);
    const at::Tensor qk = raw.narrow(1, 0, 6 * dim).contiguous(), gqk = there(qk);
    split_heads_backward({groups[1], groups[0]}, qk, heads, positions, back);
    split_heads_backward({there(groups[1]), there(groups[0])}, gqk, gheads, gpositions, gback);
    expect_near(gback, back, "split_heads_backward");
    if (normed) expect_near(gheads.key_norm->weight.gradient, heads.key_norm->weight.gradient, "the norm's gradient");
  }
}

TEST_P(OnTheGpu, Loss) {
  const std::int64_t rows = 19, words = 1003;
  at::Tensor logits = random({rows, words}) * 2, glogits = there(logits);
  at::Tensor targets = at::randint(words, {rows}, at::kLong);
  targets[3] = -100;
  const at::Tensor gtargets = there(targets);
  const at::Tensor losses = at::zeros({rows}, at::kDouble), glosses = there(losses);
  cross_entropy(logits, targets, losses), cross_entropy(glogits, gtargets, glosses);
  expect_near(glosses, losses, "cross_entropy");
  cross_entropy_in_place(logits, targets, 0.25, losses), cross_entropy_in_place(glogits, gtargets, 0.25, glosses);
  expect_near(glosses, losses, "the losses of cross_entropy_in_place");
  expect_near(glogits, logits, "cross_entropy_in_place");
}

TEST_P(OnTheGpu, Tables) {
  const std::int64_t rows = 45, columns = 72;
  const at::Tensor tokens = at::randint(11, {rows}, at::kLong), positions = at::randint(50, {rows}, at::kLong);
  const at::Tensor embedding = random({11, columns}), table = random({50, columns}), d = random({rows, columns});
  at::Tensor x = at::empty({rows, columns}, d.options()), gx = there(x), sum = at::zeros({11, columns});
  at::Tensor gsum = there(sum);
  for (const at::Tensor& of_positions : {at::Tensor(), table}) {
    gather_rows(tokens, embedding, positions, of_positions, x);
    gather_rows(there(tokens), there(embedding), there(positions), there(of_positions), gx);
    expect_near(gx, x, "gather_rows");
  }
  add_rows(tokens, d, sum), add_rows(there(tokens), there(d), gsum);
  expect_near(gsum, sum, "add_rows");
  add_row(d[0], x), add_row(there(d)[0], gx);
  expect_near(gx, x, "add_row");
  fill_rows(d[1], x), fill_rows(there(d)[1], gx);
  expect_near(gx, x, "fill_rows");
  at::Tensor columns_sum = at::zeros({columns}), gcolumns_sum = there(columns_sum);
  add_column_sums(d, columns_sum), add_column_sums(there(d), gcolumns_sum);
  expect_near(gcolumns_sum, columns_sum, "add_column_sums");
  const at::Tensor values = at::randn({1000, 37}), square = at::empty({1}, at::kDouble), gsquare = there(square);
  const at::Tensor partial = at::empty({square_sums}, at::kDouble), gpartial = there(partial);
  sum_squares(values, partial, square), sum_squares(there(values), gpartial, gsquare);
  expect_near(gsquare, square, "sum_squares");
}

INSTANTIATE_TEST_SUITE_P(, OnTheGpu, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

// Attention and its gradients in float64, as it is defined.
struct Exact {
  Exact(const at::Tensor& qkv, const at::Tensor& d_o, const GroupHeads& h, const Mask& mask) {
    const std::int64_t tokens = qkv.size(0);
    const at::Tensor x = qkv.to(at::kDouble);
    const auto heads = [&](std::int64_t first, std::int64_t count) {
      return x.narrow(1, first * h.dim, count * h.dim).unflatten(1, {count, h.dim}).transpose(0, 1).contiguous();
    };
    const at::Tensor q = heads(0, h.queries).requires_grad_(), k = heads(h.queries, h.keys).requires_grad_();
    const at::Tensor v = heads(h.queries + h.keys, h.keys).requires_grad_();
    at::Tensor hidden = at::ones({tokens, tokens}, at::kBool);
    const Visibility visible(mask, tokens);
    for (std::int64_t i = 0; i < tokens; ++i) hidden[i].slice(0, visible.first_key(i), i + 1) = false;
    const std::int64_t group = h.queries / h.keys;
    const at::Tensor scores = at::matmul(q, k.repeat_interleave(group, 0).transpose(1, 2)) / std::sqrt(double(h.dim));
    const at::Tensor shares = scores.masked_fill(hidden, -INFINITY).softmax(-1);
    const at::Tensor result = at::matmul(shares, v.repeat_interleave(group, 0)).transpose(0, 1).flatten(1);
    result.backward(d_o.to(at::kDouble));
    const auto by_row = [](const at::Tensor& t) { return t.transpose(0, 1).flatten(1); };
    o = result.detach(), dq = by_row(q.grad()), dk = by_row(k.grad()), dv = by_row(v.grad());
  }
  at::Tensor o, dq, dk, dv;
};

class AttentionOnTheGpu : public OnTheGpu {
 protected:
  // Every kernel of the table that has what is asked.
  void compare(std::int64_t tokens, const GroupHeads& heads, const Mask& mask, const char* what) const {
    const at::Tensor qkv = random({tokens, (heads.queries + 2 * heads.keys) * heads.dim}), gqkv = there(qkv);
    const at::Tensor d = random({tokens, heads.queries * heads.dim});
    const Exact exact(qkv, d, heads, mask);
    const AttentionNeeds needs{at::kBFloat16, heads.dim, 0,
                               mask.window > 0 && mask.window<tokens, mask.document_starts.size()> 1};
    int kernels = 0;
    for (const AttentionKernel& kernel : attention_kernels(c10::kCUDA)) {
      if (!why_not(kernel.limits, needs).empty()) continue;
      const std::string name = std::string(kernel.name) + ": " + what;
      const auto [o, lse] = kernel.forward(gqkv, heads, mask, {});
      expect_near(o, exact.o, name.c_str());
      const auto [dq, dk, dv] = kernel.backward(there(d), gqkv, o, lse, heads, mask);
      expect_near(dq, exact.dq, name.c_str());
      expect_near(dk, exact.dk, name.c_str());
      expect_near(dv, exact.dv, name.c_str());
      ++kernels;
    }
    EXPECT_EQ(kernels, needs.window || needs.documents ? 1 : 2) << what;
  }
};

TEST_P(AttentionOnTheGpu, Dense) {
  for (const std::int64_t tokens : {17, 127, 300}) compare(tokens, {4, 2, 64}, {}, "dense");
  for (const std::int64_t heads : {1, 7, 12, 13}) compare(129, {heads, 1, 128}, {}, "heads");
}

TEST_P(AttentionOnTheGpu, DocumentsAndWindows) {
  const std::vector<std::int64_t> starts{0, 5, 130, 131, 290};
  compare(301, {4, 2, 64}, {.document_starts = starts}, "documents");
  compare(301, {4, 4, 32}, {.window = 50}, "a window");
  compare(301, {4, 4, 32}, {.window = 301}, "a window of all");
}

// The rows of the first queries, which read the first keys only, are those of the whole.
TEST_P(AttentionOnTheGpu, Prefixes) {
  const GroupHeads heads{4, 2, 64};
  const at::Tensor qkv = random({300, 8 * 64}), gqkv = there(qkv);
  for (const AttentionKernel& kernel : attention_kernels(c10::kCUDA)) {
    const auto [o, lse] = kernel.forward(gqkv, heads, {}, {});
    const auto [some, some_lse] = kernel.forward(gqkv.narrow(0, 0, 128), heads, {}, QueryRange{0, 128});
    expect_near(some, o.narrow(0, 0, 128).cpu(), kernel.name);
    expect_near(some_lse, lse.narrow(0, 0, 128).cpu(), kernel.name);
  }
}

// The limits of the table are those of the operators: beyond them they refuse, or compute something else.
TEST_P(AttentionOnTheGpu, Limits) {
  const auto find = [](const char* name) { return **attention_named(attention_kernels(c10::kCUDA), name); };
  const AttentionKernel flash2 = find("flash2"), cudnn = find("cudnn");
  EXPECT_EQ(why_not(flash2.limits, {at::kFloat, 64}), "float32; it takes bfloat16");
  EXPECT_EQ(why_not(flash2.limits, {at::kBFloat16, 12}), "heads of 12 values; it takes multiples of 8 up to 256");
  EXPECT_EQ(why_not(cudnn.limits, {at::kBFloat16, 136}), "heads of 136 values; it takes multiples of 8 up to 128");
  for (const AttentionKernel& kernel : {flash2, cudnn}) {
    EXPECT_EQ(why_not(kernel.limits, {at::kBFloat16, 128}), "");
    EXPECT_EQ(why_not(kernel.limits, {at::kBFloat16, 64, 5}), "a soft cap of the scores");
    for (const std::int64_t dim : {12, 264})
      EXPECT_ANY_THROW(kernel.forward(there(random({64, 3 * dim})), {1, 1, dim}, {}, {})) << kernel.name << dim;
  }
  AttentionNeeds needs{at::kBFloat16, 64};
  needs.window = true;
  EXPECT_EQ(why_not(cudnn.limits, needs), "a sliding window");
  needs.window = false, needs.documents = true;
  EXPECT_EQ(why_not(cudnn.limits, needs), "several documents in a sequence");
  needs.documents = false, needs.in_order = true;
  EXPECT_EQ(why_not(cudnn.limits, needs), "gradients of the same bits in every run");
  EXPECT_EQ(why_not(flash2.limits, needs), "");
}

// Where gradients may be added in any order, both kernels are timed.
TEST_P(AttentionOnTheGpu, Choice) {
  const auto device = open_device(place());
  const CoreCalls calls{{1, 1, 8}, at::kBFloat16, Tokens(300), 0, false, false, false};
  const auto choice = choose_attention(attention_kernels(c10::kCUDA), "auto", calls, **device);
  ASSERT_TRUE(choice) << choice.error().message;
  double best = INFINITY;
  std::string fastest;
  for (const char* name : {"flash2", "cudnn"}) {
    std::vector<std::pair<Length, double>> times;
    for (const plan::AttentionTime& m : choice->measured) {
      const auto tokens = static_cast<double>(m.tokens.value());
      const double seconds = m.forward.value() + m.backward.value();
      EXPECT_GT(seconds, 0);
      if (m.kernel == name) times.emplace_back(Length{tokens, pairs_seen(tokens, 0)}, seconds);
    }
    ASSERT_FALSE(times.empty()) << name;
    const double pairs = times.back().second / times.back().first.pairs;  // at the longest, which decides
    if (pairs < 0.8 * best) fastest = name;
    if (pairs > 0.8 * best && pairs < 1.25 * best) fastest = "";  // too near to tell
    best = std::min(best, pairs);
  }
  if (!fastest.empty()) {
    EXPECT_EQ(choice->kernel->name, fastest);
  }
}

INSTANTIATE_TEST_SUITE_P(, AttentionOnTheGpu, testing::Values(at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace memo::libtorch
