// Memo's own code for GPUs on the emulated one: what calls allocate, and which kernels they are.
#include "memo/gpu/cuda_device.h"
#include "memo/libtorch/kernels/kernels.h"
#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

using testing::IsEmpty;

TEST(MemoOnAGpu, SumsSquaresWithoutMemory) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({1000, 37}), there = x.to(cuda_0);
  const auto doubles = at::dtype(at::kDouble).device(cuda_0);
  const at::Tensor partial = at::empty({libtorch::square_sums}, doubles), sum = at::empty({1}, doubles);
  EXPECT_THAT(requests_of([&] { libtorch::sum_squares(there, partial, sum); }), IsEmpty());
  EXPECT_NEAR(sum.item<double>(), x.to(at::kDouble).square().sum().item<double>(), 1e-6);
}

}  // namespace
}  // namespace memo::cuda::emulated
