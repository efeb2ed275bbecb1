// Reductions on the emulated GPU: the CPU's results, and the scratch that Reduce.cuh asks for on 132 multiprocessors of
// 2048 threads. Sizes are worked out beside each.
#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

using testing::ElementsAre;

at::Tensor there(at::IntArrayRef sizes, at::ScalarType type) { return at::ones(sizes, type).to(cuda_0); }

TEST(Reductions, OfFewElementsAskForTheirResult) {
  const at::Tensor x = there({64, 32}, at::kFloat);
  EXPECT_THAT(requests_of([&] { x.sum(); }), ElementsAre(4));
  EXPECT_THAT(requests_of([&] { x.sum(1); }), ElementsAre(64 * 4));
  EXPECT_THAT(requests_of([&] { x.mean(0); }), ElementsAre(32 * 4));
}

// 512 threads of one block take 2048 each; of 4 blocks a multiprocessor, 128 leave 16 to a thread.
TEST(Reductions, OfOneLargeResultHaveAPartForEachBlock) {
  const at::Tensor x = there({1 << 20}, at::kFloat);
  EXPECT_THAT(requests_of([&] { x.sum(); }), ElementsAre(4, 128 * 4, 4));
  EXPECT_THAT(requests_of([&] { x.max(); }), ElementsAre(4, 128 * 4, 4));
  EXPECT_THAT(requests_of([&] { x.argmax(); }), ElementsAre(8, 128 * 16, 4));
  EXPECT_THAT(requests_of([&] { x.to(at::kBFloat16).sum(); }), ElementsAre(2 << 20, 2, 128 * 4, 4));
  EXPECT_EQ(x.sum().item<float>(), 1 << 20);
}

// Columns: a thread loads 4 of them, 32 by 4 threads are a block, 6 blocks are 768 columns, and 64 blocks share each of
// the 4096 rows' sums. Every thread of a block has room for its columns.
TEST(Reductions, OverRowsHaveAPartForEachBlockAndThread) {
  const at::Tensor x = there({4096, 768}, at::kBFloat16);
  EXPECT_THAT(requests_of([&] { x.sum(0, false, at::kFloat); }),
              ElementsAre(768 * 4, std::int64_t{4} * 768 * 64 * 32 * 4, 6 * 4));
  EXPECT_TRUE(same(x.sum(0, false, at::kFloat), at::full({768}, 4096.0f)));
  EXPECT_THAT(requests_of([&] { x.narrow(0, 0, 512).sum(0, false, at::kFloat); }), ElementsAre(768 * 4));
}

TEST(Reductions, CopyTheirOperandWhereTypesDiffer) {
  const at::Tensor x = there({6, 5}, at::kFloat), truth = x > 0;
  EXPECT_THAT(requests_of([&] { at::linalg_vector_norm(x, 2, {}, false, at::kDouble); }), ElementsAre(8, 30 * 8));
  EXPECT_THAT(requests_of([&] { truth.sum(); }), ElementsAre(8, 30 * 8));
  EXPECT_THAT(requests_of([&] { x.to(at::kBFloat16).sum({}, false, at::kFloat); }), ElementsAre(60, 4));
  EXPECT_EQ(truth.sum().item<std::int64_t>(), 30);
}

// A part for each chunk of 65536 elements of the largest tensor, for every tensor; then the norms.
TEST(Reductions, OfAListAreOneScratch) {
  const std::vector<at::Tensor> list{there({70000}, at::kBFloat16), there({3}, at::kBFloat16)};
  EXPECT_THAT(requests_of([&] { at::_foreach_norm(list, 2); }), ElementsAre(2 * 2 * 4, 2, 2));
  EXPECT_THAT(requests_of([&] { at::_foreach_norm(list, 2, at::kFloat); }), ElementsAre(2 * 2 * 4, 4, 4));
  EXPECT_NEAR(at::_foreach_norm(list, 2, at::kFloat)[0].item<float>(), std::sqrt(70000.0f), 1e-2);
}

}  // namespace
}  // namespace memo::cuda::emulated
