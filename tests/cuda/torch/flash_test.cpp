// Flash attention on the emulated GPU: results, and the allocations of ATen's CUDA sources.
#include <ATen/Context.h>

#include "tests/cuda/torch/split_kv.h"
#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

using testing::ElementsAre;

// As of torch 2.13; an undefined tensor: none.
struct Attention {
  at::Tensor q, k, v, starts;
  std::int64_t longest = 0;

  auto forward(std::optional<std::int64_t> window = std::nullopt) const {
    const auto maybe = starts.defined() ? std::optional(starts) : std::nullopt;
    return at::_flash_attention_forward(q, k, v, maybe, maybe, longest, longest, 0.0, true, false, {}, window,
                                        window ? std::optional<std::int64_t>(0) : std::nullopt);
  }
  auto backward(const at::Tensor& d, const at::Tensor& o, const at::Tensor& lse) const {
    const at::Tensor no_dropout = at::empty({2}, q.options().dtype(at::kUInt64));
    return at::_flash_attention_backward(d, q, k, v, o, lse, starts, starts, longest, longest, 0.0, true, no_dropout,
                                         no_dropout);
  }
};

Attention dense(std::int64_t rows, std::int64_t heads, std::int64_t key_heads, std::int64_t dim) {
  at::manual_seed(3);
  const auto make = [&](std::int64_t h) { return at::randn({1, rows, h, dim}, at::kBFloat16).to(cuda_0); };
  return {make(heads), make(key_heads), make(key_heads), {}, rows};
}

Attention varlen(const Attention& of, const std::vector<int>& starts) {
  std::int64_t longest = 0;
  for (std::size_t i = 1; i < starts.size(); ++i) longest = std::max<std::int64_t>(longest, starts[i] - starts[i - 1]);
  return {of.q[0], of.k[0], of.v[0], at::tensor(starts, at::kInt).to(cuda_0), longest};
}

at::Tensor plain(const Attention& x) {
  const auto heads = [&](const at::Tensor& t) {
    const at::Tensor rows = t.cpu().to(at::kFloat).transpose(1, 2);
    return rows.repeat_interleave(x.q.size(2) / t.size(2), 1);
  };
  return at::scaled_dot_product_attention(heads(x.q), heads(x.k), heads(x.v), {}, 0.0, true).transpose(1, 2);
}

TEST(Flash, IsAttention) {
  const Attention x = dense(300, 4, 2, 16);
  const at::Tensor o = std::get<0>(x.forward());
  EXPECT_TRUE(at::allclose(o.cpu().to(at::kFloat), plain(x), 2e-2, 2e-2));
}

TEST(Flash, HasTheGradientsOfAttention) {
  const Attention x = dense(300, 4, 2, 16);
  std::vector<at::Tensor> leaves;
  for (const at::Tensor* t : {&x.q, &x.k, &x.v}) leaves.push_back(t->cpu().to(at::kFloat).requires_grad_());
  at::manual_seed(4);
  const at::Tensor d = at::randn_like(leaves[0]).to(at::kBFloat16).to(at::kFloat);
  const auto heads = [](const at::Tensor& t, std::int64_t n) { return t.transpose(1, 2).repeat_interleave(n, 1); };
  at::scaled_dot_product_attention(heads(leaves[0], 1), heads(leaves[1], 2), heads(leaves[2], 2), {}, 0.0, true)
      .transpose(1, 2)
      .backward(d);
  const auto result = x.forward();
  const auto [dq, dk, dv] = x.backward(d.to(at::kBFloat16).to(cuda_0), std::get<0>(result), std::get<1>(result));
  EXPECT_TRUE(at::allclose(dq.cpu().to(at::kFloat), leaves[0].grad(), 3e-2, 3e-2));
  EXPECT_TRUE(at::allclose(dk.cpu().to(at::kFloat), leaves[1].grad(), 3e-2, 3e-2));
  EXPECT_TRUE(at::allclose(dv.cpu().to(at::kFloat), leaves[2].grad(), 3e-2, 3e-2));
}

TEST(Flash, KeepsDocumentsApart) {
  const Attention x = dense(200, 4, 2, 16);
  const at::Tensor o = std::get<0>(varlen(x, {0, 70, 200}).forward());
  const auto part = [&](std::int64_t first, std::int64_t n) {
    const auto cut = [&](const at::Tensor& t) { return t.narrow(1, first, n).contiguous(); };
    return std::get<0>(Attention{cut(x.q), cut(x.k), cut(x.v), {}, n}.forward())[0];
  };
  EXPECT_TRUE(same(o.narrow(0, 0, 70), part(0, 70).cpu()));
  EXPECT_TRUE(same(o.narrow(0, 70, 130), part(70, 130).cpu()));
}

TEST(Flash, AsksForWhatAtenAsksFor) {
  const std::int64_t rows = 1000, heads = 16, dim = 64, bytes = rows * heads * dim * 2;
  const Attention x = dense(rows, heads, 4, dim);
  EXPECT_THAT(requests_of([&] { x.forward(); }), ElementsAre(bytes, heads * rows * 4, 16, 8));
  const auto result = x.forward();
  const at::Tensor d = at::ones_like(x.q);
  EXPECT_THAT(requests_of([&] { x.backward(d, std::get<0>(result), std::get<1>(result)); }),
              ElementsAre(16, bytes, bytes / 4, bytes / 4, heads * 1024 * 4, 1024 * heads * dim * 4, bytes, bytes));
  const Attention apart = varlen(x, {0, 300, 1000});
  const auto parts = apart.forward();
  EXPECT_THAT(requests_of([&] { apart.forward(); }), ElementsAre(bytes, heads * rows * 4, 16, 8));
  EXPECT_THAT(requests_of([&] { apart.backward(d[0], std::get<0>(parts), std::get<1>(parts)); }),
              ElementsAre(16, bytes, bytes / 4, bytes / 4, heads * 1256 * 4, 1256 * heads * dim * 4, bytes, bytes));
}

// Heads and lengths of flash_api.cpp's heuristic on 132 multiprocessors.
TEST(Flash, SplitsKeysWhereHeadsAreFew) {
  EXPECT_EQ(splits_of(16, 1024, 1024, 128), 1);
  EXPECT_EQ(splits_of(8, 1024, 1024, 128), 2);
  EXPECT_EQ(splits_of(1, 1024, 1024, 128), 8);
  EXPECT_EQ(splits_of(8, 2048, 2048, 128), 1);
  EXPECT_EQ(splits_of(2, 65536, 65536, 128), 1);
  const Attention x = dense(1024, 1, 1, 64);
  EXPECT_THAT(requests_of([&] { x.forward(); }),
              ElementsAre(1024 * 64 * 2, 1024 * 4, 4 * 1024 * 4, 4 * 1024 * 64 * 4, 16, 8));
}

TEST(Flash, AddsInAnotherOrderEachTimeUnlessDeterminismIsAskedFor) {
  const Attention x = dense(1024, 2, 2, 64);
  const auto result = x.forward();
  const at::Tensor d = at::ones_like(x.q);
  const auto dq = [&] { return std::get<0>(x.backward(d, std::get<0>(result), std::get<1>(result))).cpu(); };
  bool differs = false;
  for (int i = 0; i < 5; ++i) differs |= !at::equal(dq(), dq());
  EXPECT_TRUE(differs);
  at::globalContext().setDeterministicAlgorithms(true, false);
  EXPECT_TRUE(at::equal(dq(), dq()));
  EXPECT_THAT(requests_of([&] { x.backward(d, std::get<0>(result), std::get<1>(result)); })[5], 66 * 1024 * 2 * 64 * 4);
  at::globalContext().setDeterministicAlgorithms(false, false);
}

// One query whose key head four query heads share: they are the rows, of one key head each; 132 multiprocessors have
// room for 8 parts of 1024 keys.
TEST(Flash, TakesHeadsThatShareKeysForRowsWhereThereIsOneQuery) {
  const Attention x = dense(1024, 4, 1, 64);
  const Attention last{x.q.narrow(1, 1023, 1).contiguous(), x.k, x.v, {}, 1};
  const at::Tensor o = std::get<0>(last.forward());
  EXPECT_TRUE(at::allclose(o.cpu().to(at::kFloat), plain(x).narrow(1, 1023, 1), 2e-2, 2e-2));
  EXPECT_THAT(requests_of([&] { last.forward(); }), ElementsAre(512, 16, 4 * 4 * 4, 4 * 4 * 64 * 4, 16, 8));
}

TEST(Flash, RefusesWhatCudaRefuses) {
  Attention x = dense(64, 2, 2, 16);
  x.q = x.q.to(at::kFloat), x.k = x.k.to(at::kFloat), x.v = x.v.to(at::kFloat);
  EXPECT_THROW(x.forward(), c10::Error);
  EXPECT_THROW(dense(64, 2, 2, 12).forward(), c10::Error);
  EXPECT_THROW(dense(64, 2, 2, 264).forward(), c10::Error);
}

}  // namespace
}  // namespace memo::cuda::emulated
