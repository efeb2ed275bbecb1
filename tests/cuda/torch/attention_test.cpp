// cuDNN's and memory-efficient attention on the emulated GPU, and which kernel scaled_dot_product_attention takes:
// results beside the CPU's, and the allocations of ATen's CUDA sources.
#include <ATen/Context.h>

#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

using testing::ElementsAre;

// [batch, heads, rows, dim], as a model has them: views of [batch, rows, heads, dim].
struct Operands {
  at::Tensor q, k, v, mask;
  bool causal = true;

  Operands(at::ScalarType type, std::int64_t heads, std::int64_t key_heads, std::int64_t rows, std::int64_t dim) {
    at::manual_seed(3);
    const auto make = [&](std::int64_t h) { return at::randn({2, rows, h, dim}).to(type).transpose(1, 2); };
    q = make(heads), k = make(key_heads), v = make(key_heads);
  }
  [[nodiscard]] Operands to(c10::Device device, std::optional<at::ScalarType> type = {}) const {
    Operands result = *this;
    for (at::Tensor* t : {&result.q, &result.k, &result.v, &result.mask})
      if (t->defined() && t->scalar_type() != at::kBool) *t = t->to(device, type.value_or(t->scalar_type()));
    if (mask.defined()) result.mask = result.mask.to(device);
    return result;
  }
  [[nodiscard]] at::Tensor attention() const {
    const auto maybe = mask.defined() ? std::optional(mask) : std::nullopt;
    return at::scaled_dot_product_attention(q, k, v, maybe, 0.0, causal, {}, q.size(1) != k.size(1));
  }
  // The result and the gradients of a sum with given weights.
  [[nodiscard]] std::vector<at::Tensor> all(const at::Tensor& weights) const {
    Operands leaves = *this;
    for (at::Tensor* t : {&leaves.q, &leaves.k, &leaves.v}) *t = t->detach().requires_grad_();
    const at::Tensor o = leaves.attention();
    o.backward(weights.to(o.device(), o.scalar_type()));
    return {o.detach(), leaves.q.grad(), leaves.k.grad(), leaves.v.grad()};
  }
};

// Which of the kernels are allowed.
struct Allowed {
  explicit Allowed(const std::string& kernels) {
    const auto has = [&](char kernel) { return kernels.find(kernel) != std::string::npos; };
    auto& context = at::globalContext();
    context.setSDPUseCuDNN(has('c')), context.setSDPUseFlash(has('f'));
    context.setSDPUseMemEfficient(has('e')), context.setSDPUseMath(has('m'));
  }
  Allowed(const Allowed&) = delete;
  Allowed& operator=(const Allowed&) = delete;
  ~Allowed() {
    at::globalContext().setDeterministicAlgorithms(false, false);
    auto& context = at::globalContext();
    context.setSDPUseCuDNN(true), context.setSDPUseFlash(true);
    context.setSDPUseMemEfficient(true), context.setSDPUseMath(true);
  }
};

void expect_the_cpus(const char* kernel, const Operands& x, double tolerance) {
  at::manual_seed(4);
  const at::Tensor weights = at::randn({2, x.q.size(1), x.q.size(2), x.v.size(3)});
  const std::vector<at::Tensor> here = x.to(at::kCPU, at::kFloat).all(weights);
  const Allowed only(kernel);
  const std::vector<at::Tensor> there = x.to(cuda_0).all(weights);
  for (std::size_t i = 0; i < here.size(); ++i)
    EXPECT_TRUE(at::allclose(there[i].cpu().to(at::kFloat), here[i], tolerance, tolerance)) << i;
}

at::SDPBackend chosen(const Operands& x) {
  const auto maybe = x.mask.defined() ? std::optional(x.mask) : std::nullopt;
  return static_cast<at::SDPBackend>(
      at::_fused_sdp_choice(x.q, x.k, x.v, maybe, 0.0, x.causal, {}, x.q.size(1) != x.k.size(1)));
}

TEST(Attention, OfCudnnIsTheCpus) {
  Operands x(at::kBFloat16, 4, 2, 150, 16);
  expect_the_cpus("c", x, 4e-2);
  x.causal = false, x.mask = at::randn({2, 1, 150, 150}).to(at::kBFloat16);
  expect_the_cpus("c", x, 4e-2);
}

TEST(Attention, OfCudnnAsksForWhatAtenAsksFor) {
  const std::int64_t rows = 150, bytes = 2 * 4 * rows * 16 * 2, sums = 2 * 4 * rows * 4;
  const Operands x = Operands(at::kBFloat16, 4, 2, rows, 16).to(cuda_0);
  const auto forward = [&] {
    return at::_scaled_dot_product_cudnn_attention(x.q, x.k, x.v, {}, true, 0.0, true, false);
  };
  EXPECT_THAT(requests_of(forward), ElementsAre(8, 8, bytes, sums));
  const auto result = forward();
  EXPECT_EQ(std::get<0>(result).strides(), x.q.strides());
  const auto& [o, lse, starts_q, starts_k, longest_q, longest_k, seed, offset, mask] = result;
  EXPECT_THAT(requests_of([&] {
                at::_scaled_dot_product_cudnn_attention_backward(x.q, x.q, x.k, x.v, o, lse, seed, offset, {}, {}, {},
                                                                 rows, rows, 0.0, true);
              }),
              ElementsAre(bytes, bytes / 2, bytes / 2, bytes * 2 + sums));
}

TEST(Attention, OfCudnnKeepsDocumentsApart) {
  const Operands x = Operands(at::kBFloat16, 4, 2, 150, 16).to(cuda_0);
  const auto tokens = [](const at::Tensor& t) { return t.transpose(1, 2)[0].contiguous(); };
  const at::Tensor starts = at::tensor({0, 50, 150}, at::kInt).to(cuda_0);
  const at::Tensor o = std::get<0>(at::_cudnn_attention_forward(tokens(x.q), tokens(x.k), tokens(x.v), {}, starts,
                                                                starts, 100, 100, true, 0.0, true, false));
  Operands second = x;
  for (at::Tensor* t : {&second.q, &second.k, &second.v}) *t = t->narrow(2, 50, 100);
  const Allowed only("c");
  EXPECT_TRUE(same(o.narrow(0, 50, 100), second.attention().transpose(1, 2)[0].cpu()));
}

TEST(Attention, MemoryEfficientIsTheCpus) {
  expect_the_cpus("e", Operands(at::kFloat, 4, 4, 150, 16), 1e-4);
  Operands x(at::kBFloat16, 4, 4, 150, 136);
  expect_the_cpus("e", x, 4e-2);
  x.causal = false, x.mask = at::rand({2, 1, 150, 150}) > 0.3;
  expect_the_cpus("e", x, 4e-2);
}

// Tiles of 64 by 64 up to a width of 64, and of 128 by 128 up to 128, each with a lock, a counter and two words
// between; log-sum-exps for a multiple of 32 rows.
TEST(Attention, MemoryEfficientAsksForWhatAtenAsksFor) {
  const auto requests = [](at::ScalarType type, std::int64_t dim) {
    const Operands x = Operands(type, 4, 4, 140, dim).to(cuda_0);
    const auto forward = [&] {
      return at::_scaled_dot_product_efficient_attention(x.q, x.k, x.v, {}, true, 0.0, true);
    };
    std::vector<std::int64_t> all = requests_of(forward);
    const auto result = forward();
    const auto& [o, lse, seed, offset] = result;
    const std::vector<std::int64_t> of_backward = requests_of([&] {
      at::_scaled_dot_product_efficient_attention_backward(x.q, x.q, x.k, x.v, {}, o, lse, seed, offset, 0.0,
                                                           {true, true, true, false}, true);
    });
    all.insert(all.end(), of_backward.begin(), of_backward.end());
    return all;
  };
  const std::int64_t heads = 8, sums = heads * 140 * 4;
  const std::int64_t narrow = heads * 140 * 16 * 2, wide = heads * 140 * 128 * 2, widest = heads * 140 * 256 * 2;
  EXPECT_THAT(requests(at::kBFloat16, 16),
              ElementsAre(narrow, heads * 160 * 4, narrow, narrow, narrow, sums, heads * 3 * (16 + 64 * 64 * 4)));
  EXPECT_THAT(requests(at::kBFloat16, 128),
              ElementsAre(wide, heads * 160 * 4, wide, wide, wide, sums, heads * 2 * (16 + 128 * 128 * 4)));
  const std::int64_t of_keys = 3 * 64 * (256 + 256) * 4;  // 3 parts of keys
  EXPECT_THAT(requests(at::kBFloat16, 256), ElementsAre(widest, heads * 160 * 4, widest * 2, widest, widest, widest,
                                                        sums, heads * (of_keys + 2 * 4 * (16 + 128 * 64 * 4))));
  EXPECT_THAT(requests(at::kFloat, 16), ElementsAre(narrow * 2, heads * 160 * 4, narrow * 2, narrow * 2, narrow * 2,
                                                    narrow * 2, sums, sums, heads * 3 * (16 + 64 * 64 * 4)));
}

TEST(Attention, AddsInAnotherOrderWhereKeysAreSplit) {
  const Operands x = Operands(at::kBFloat16, 2, 2, 700, 64).to(cuda_0);
  const at::Tensor weights = at::randn({2, 2, 700, 64});
  const auto has_one_order = [&] {
    const at::Tensor first = x.all(weights)[1].cpu();
    for (int i = 0; i < 5; ++i)
      if (!at::equal(x.all(weights)[1].cpu(), first)) return false;
    return true;
  };
  for (const char* kernel : {"c", "e"}) {
    const Allowed only(kernel);
    EXPECT_FALSE(has_one_order()) << kernel;
  }
  const Allowed only("ce");
  at::globalContext().setDeterministicAlgorithms(true, false);
  EXPECT_EQ(chosen(x), at::SDPBackend::efficient_attention);
  EXPECT_TRUE(has_one_order());
}

TEST(Attention, IsChosenAsOnCuda) {
  const Operands usual = Operands(at::kBFloat16, 4, 2, 64, 64).to(cuda_0);
  EXPECT_EQ(chosen(usual), at::SDPBackend::cudnn_attention);
  EXPECT_EQ(chosen(Operands(at::kBFloat16, 4, 2, 64, 136).to(cuda_0)), at::SDPBackend::flash_attention);
  EXPECT_EQ(chosen(Operands(at::kFloat, 4, 4, 64, 64).to(cuda_0)), at::SDPBackend::efficient_attention);
  EXPECT_EQ(chosen(Operands(at::kFloat, 4, 2, 64, 64).to(cuda_0)), at::SDPBackend::math);
  EXPECT_EQ(chosen(Operands(at::kFloat, 4, 4, 64, 6).to(cuda_0)), at::SDPBackend::math);
  Operands masked = usual;
  masked.causal = false, masked.mask = at::ones({64, 64}, at::dtype(at::kBool).device(cuda_0));
  EXPECT_EQ(chosen(masked), at::SDPBackend::cudnn_attention);
  {
    const Allowed others("fem");
    EXPECT_EQ(chosen(usual), at::SDPBackend::flash_attention);
    EXPECT_EQ(chosen(masked), at::SDPBackend::math);  // its heads are grouped
  }
  const Allowed all("cfem");
  at::globalContext().setDeterministicAlgorithms(true, false);
  EXPECT_EQ(chosen(usual), at::SDPBackend::flash_attention);
}

TEST(Attention, RefusesWhatCudaRefuses) {
  const Allowed only("c");
  EXPECT_THROW(Operands(at::kFloat, 4, 4, 64, 64).to(cuda_0).attention(), c10::Error);
  const auto direct = [](const Operands& x) {
    return at::_scaled_dot_product_cudnn_attention(x.q, x.k, x.v, {}, true, 0.0, true, false);
  };
  EXPECT_THROW(direct(Operands(at::kBFloat16, 4, 4, 64, 136).to(cuda_0)), c10::Error);
  const Operands grouped = Operands(at::kFloat, 4, 2, 64, 64).to(cuda_0);
  EXPECT_THROW(at::_scaled_dot_product_efficient_attention(grouped.q, grouped.k, grouped.v, {}, true), c10::Error);
}

}  // namespace
}  // namespace memo::cuda::emulated
