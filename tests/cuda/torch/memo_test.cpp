// Memo's own code for GPUs on the emulated one: what calls allocate, and which kernels they are.
#include "memo/gpu/cuda_device.h"
#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/measure/block_time.h"
#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

TEST(MemoOnAGpu, SumsSquaresWithoutMemory) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({1000, 37}), there = x.to(cuda_0);
  const auto doubles = at::dtype(at::kDouble).device(cuda_0);
  const at::Tensor partial = at::empty({libtorch::square_sums}, doubles), sum = at::empty({1}, doubles);
  EXPECT_THAT(requests_of([&] { libtorch::sum_squares(there, partial, sum); }), IsEmpty());
  EXPECT_NEAR(sum.item<double>(), x.to(at::kDouble).square().sum().item<double>(), 1e-6);
}

// Sums over many rows need ones for the rows, and no buffer for parts of sums.
TEST(MemoOnAGpu, AddsColumnSumsWithOnesOnly) {
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    const at::Tensor d = at::randn({16384, 24}).to(type), there = d.to(cuda_0);
    at::Tensor gradient = at::ones({24}, at::dtype(at::kFloat).device(cuda_0));
    EXPECT_THAT(requests_of([&] { libtorch::add_column_sums(there, gradient); }),
                ElementsAre(16384 * d.element_size()));
    EXPECT_TRUE(at::allclose(gradient.cpu(), d.to(at::kFloat).sum(0) + 1, 1e-3, 1e-2));
  }
}

// Larger blocks than the GPU has memory for are no choice.
TEST(MemoOnAGpu, BlocksAreTimedAsFarAsMemoryGoes) {
  const auto device = gpu::open_cuda_device();
  ASSERT_TRUE(device) << device.error().message;
  EXPECT_TRUE(libtorch::sizes_of(**device).gpu);
  model::Shape shape;
  shape.family = "llama";
  shape.layers = 1, shape.hidden = 16, shape.heads = 2, shape.kv_heads = 1, shape.head_dim = 8, shape.ffn = 8;
  shape.vocab = 100'000'000;  // of which it takes no memory
  const auto blocks_of = [&](std::vector<Tokens> blocks) {
    std::vector<Tokens> timed;
    const auto measured = libtorch::time_blocks(shape, job::DType::bfloat16, 1, blocks, **device);
    EXPECT_TRUE(measured) << (measured ? "" : measured.error().message);
    if (!measured) return timed;
    for (const model::BlockTime& each : *measured) timed.push_back(each.block);
    return timed;
  };
  EXPECT_THAT(blocks_of({Tokens(16), Tokens(64)}), ElementsAre(Tokens(16), Tokens(64)));
  EXPECT_THAT(blocks_of({Tokens(16), Tokens(std::int64_t{1} << 40)}), ElementsAre(Tokens(16)));
}

TEST(MemoOnAGpu, WhatALostGpuMakesLibTorchThrowSaysWhatToDo) {
  const auto device = gpu::open_cuda_device();
  ASSERT_TRUE(device) << device.error().message;
  const at::Tensor x = at::ones({8}, cuda_0);
  fail("", cudaErrorECCUncorrectable);
  const auto lost = ThrowsMessage<std::runtime_error>(AllOf(HasSubstr("cudaErrorECCUncorrectable"), HasSubstr("Xid")));
  EXPECT_THAT([&] { (*device)->run([&] { (void)x.sum().item<float>(); }); }, lost);
  EXPECT_THAT([&] { (*device)->finish(); }, lost);
  heal();
  EXPECT_THAT([&] { (*device)->run([] { throw std::logic_error("of its own"); }); },
              ThrowsMessage<std::logic_error>(HasSubstr("of its own")));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace memo::cuda::emulated
