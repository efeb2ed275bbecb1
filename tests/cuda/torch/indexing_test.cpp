// Writes and sums at indices on the emulated GPU: the CPU's results, the temporaries of ATen's, and an order of sums
// that is fixed where CUDA fixes it.
#include <ATen/Context.h>

#include "tests/cuda/torch/cub.h"
#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

using testing::ElementsAre;

struct Indexing : testing::Test {
  Indexing() { at::manual_seed(1); }
  ~Indexing() override { at::globalContext().setDeterministicAlgorithms(false, false); }
  static void ask_for_determinism() { at::globalContext().setDeterministicAlgorithms(true, false); }

  // Whether ten calls have one result, whose sums of 2000 numbers show their order.
  template <class F>
  static bool has_one_order(const F& call) {
    const at::Tensor first = call().cpu();
    for (int i = 0; i < 9; ++i)
      if (!at::equal(call().cpu(), first)) return false;
    return true;
  }
  at::Tensor source = at::randn({2000, 3}), index = at::randint(4, {2000});
  at::Tensor there = source.to(cuda_0), at_rows = index.to(cuda_0);
  at::Tensor zeros = at::zeros({4, 3}), zeros_there = zeros.to(cuda_0);
};

TEST_F(Indexing, AddsWhatTheCpuAdds) {
  const auto near = [](const at::Tensor& x, const at::Tensor& y) { return at::allclose(x.cpu(), y, 1e-4, 1e-4); };
  EXPECT_TRUE(near(zeros_there.index_add(0, at_rows, there, 2), zeros.index_add(0, index, source, 2)));
  const at::Tensor spread = index.unsqueeze(1).expand({2000, 3});
  EXPECT_TRUE(near(zeros_there.scatter_add(0, spread.to(cuda_0), there), zeros.scatter_add(0, spread, source)));
  EXPECT_TRUE(near(zeros_there.index_put({at_rows}, there, true), zeros.index_put({index}, source, true)));
  ask_for_determinism();
  EXPECT_TRUE(near(zeros_there.index_add(0, at_rows, there, 2), zeros.index_add(0, index, source, 2)));
  EXPECT_TRUE(near(zeros_there.scatter_add(0, spread.to(cuda_0), there), zeros.scatter_add(0, spread, source)));
  EXPECT_TRUE(near(zeros_there.t().scatter_add(1, spread.t().to(cuda_0), there.t()),
                   zeros.t().scatter_add(1, spread.t(), source.t())));
}

TEST_F(Indexing, AddsByAtomicsInAnotherOrderEachTimeUnlessDeterminismIsAskedFor) {
  const at::Tensor spread = at_rows.unsqueeze(1).expand({2000, 3});
  const auto index_add = [&] { return zeros_there.index_add(0, at_rows, there); };
  const auto scatter_add = [&] { return zeros_there.scatter_add(0, spread, there); };
  const auto gathered = [&] {  // gather's gradient is such a sum
    const at::Tensor x = zeros_there.detach().clone().requires_grad_();
    x.gather(0, spread).backward(there);
    return x.grad();
  };
  EXPECT_FALSE(has_one_order(index_add));
  EXPECT_FALSE(has_one_order(scatter_add));
  EXPECT_FALSE(has_one_order(gathered));
  ask_for_determinism();
  EXPECT_TRUE(has_one_order(index_add));
  EXPECT_TRUE(has_one_order(scatter_add));
  EXPECT_TRUE(has_one_order(gathered));
}

TEST_F(Indexing, AddsSortedIndicesInOneOrder) {
  EXPECT_TRUE(has_one_order([&] { return zeros_there.index_put({at_rows}, there, true); }));
  EXPECT_TRUE(has_one_order([&] { return at::embedding_dense_backward(there, at_rows, 4, -1, false); }));
}

// Range checks, linear, sorted and original indices, their range, and cub's buffers; of several dimensions, with rows
// between them, first copies.
TEST_F(Indexing, SortsWithTheTemporariesOfCuda) {
  const at::Tensor rows = at::tensor({0, 2, 0}, at::kLong).to(cuda_0), ones = at::ones({3, 3}, there.options());
  at::Tensor to = zeros_there.clone();
  EXPECT_THAT(requests_of([&] { to.index_put_({rows}, ones, true); }), ElementsAre(8, 1, 8, 1, 24, 24, 24, 24, 24, 1));
  EXPECT_THAT(requests_of([&] { to.index_put_({rows}, ones[0], true); }),
              ElementsAre(8, 1, 8, 1, 24, 24, 36, 24, 24, 24, 1));
  at::Tensor cube = at::zeros({4, 5, 6}, there.options()), here = at::zeros({4, 5, 6});
  const auto put = [&](at::Tensor& x, const at::Tensor& i) {
    x.index_put_({i, std::nullopt, i}, at::ones({3, 5}, x.options()), true);
  };
  put(cube, rows), put(here, rows.cpu());
  EXPECT_TRUE(same(cube, here));
  EXPECT_THAT(requests_of([&] { to.index_put_({rows}, ones, false); }), ElementsAre());
  ask_for_determinism();
  EXPECT_THAT(requests_of([&] { to.index_put_({rows}, ones, false); }), ElementsAre(8, 1, 8, 1, 24, 24, 24, 24, 24, 1));
  EXPECT_THROW(to.index_put_({rows}, ones.to(at::kDouble), true), c10::Error);
  EXPECT_THROW(to.index_put_({rows}, ones.cpu(), true), c10::Error);
}

// Of 10000 indices: 3 tiles of 4608, one pass of 8 bits or three; every part is a multiple of 256 bytes.
TEST(Cub, AsksForHistogramsAndASecondPairOfBuffers) {
  EXPECT_EQ(radix_sort_bytes(2304, 20), 1);
  EXPECT_EQ(radix_sort_bytes(10000, 8), 255 + 1024 + 3072 + 256);
  EXPECT_EQ(radix_sort_bytes(10000, 20), 255 + 3 * 1024 + 3072 + 2 * 80128 + 256);
  EXPECT_EQ(bits_of(151935), 18);
}

TEST_F(Indexing, HasTheGradientOfAnEmbedding) {
  const at::Tensor d = at::randn({4000, 3}), tokens = at::randint(50, {4000});
  const at::Tensor here = at::embedding_dense_backward(d, tokens, 50, 7, false);
  const at::Tensor d_there = d.to(cuda_0), tokens_there = tokens.to(cuda_0);
  const at::Tensor result = at::embedding_dense_backward(d_there, tokens_there, 50, 7, false);
  EXPECT_TRUE(at::allclose(result.cpu(), here, 1e-4, 1e-4));
  const at::Tensor few = tokens.narrow(0, 0, 3000).to(cuda_0), d_few = d.narrow(0, 0, 3000).to(cuda_0);
  EXPECT_THAT(requests_of([&] { at::embedding_dense_backward(d_few, few, 50, 7, false); }), ElementsAre(50 * 3 * 4));
  const std::int64_t n = 4000 * 8, parts = 400 + 50;
  EXPECT_THAT(requests_of([&] { at::embedding_dense_backward(d_there, tokens_there, 50, 7, false); }),
              ElementsAre(n, n, n, radix_sort_bytes(4000, 64), 600, n, 8, scan_bytes(4000), 400, 400, scan_bytes(50), 8,
                          parts * 8, parts * 12));
}

}  // namespace
}  // namespace memo::cuda::emulated
