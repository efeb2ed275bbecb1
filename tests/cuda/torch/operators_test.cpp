// Operators on the emulated GPU have the CPU's results, and refuse what CUDA refuses.
#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

struct Operators : testing::Test {
  Operators() {
    at::manual_seed(1);
    a = at::randn({6, 5}), b = at::randn({6, 5}), w = at::randn({5, 4});
    da = a.to(cuda_0), db = b.to(cuda_0), dw = w.to(cuda_0);
  }
  at::Tensor a, b, w, da, db, dw;
};

TEST_F(Operators, ATensorIsTheDeviceS) {
  EXPECT_TRUE(da.is_cuda());
  EXPECT_EQ(da.device(), cuda_0);
  EXPECT_TRUE(same(da, a));
}

TEST_F(Operators, HaveTheResultsOfTheCpu) {
  EXPECT_TRUE(same(da + db, a + b));
  EXPECT_TRUE(same(da * 2.5, a * 2.5));
  EXPECT_TRUE(same(da * at::scalar_tensor(2.5), a * 2.5));
  EXPECT_TRUE(same(at::mm(da, dw), at::mm(a, w)));
  EXPECT_TRUE(same(at::cat({da, db}, 1), at::cat({a, b}, 1)));
  EXPECT_TRUE(same(da.sum(0), a.sum(0)));
  EXPECT_TRUE(same(da.softmax(1), a.softmax(1)));
  EXPECT_TRUE(same(std::get<1>(da.topk(2)), std::get<1>(a.topk(2))));
  EXPECT_TRUE(same(std::get<0>(da.sort(0)), std::get<0>(a.sort(0))));
  EXPECT_TRUE(same((da > 0).nonzero(), (a > 0).nonzero()));
  EXPECT_TRUE(same(da.masked_select(da > 0), a.masked_select(a > 0)));
  EXPECT_TRUE(same(at::layer_norm(da, {5}), at::layer_norm(a, {5})));
  EXPECT_TRUE(same(da.to(at::kBFloat16), a.to(at::kBFloat16)));
  EXPECT_TRUE(same(at::arange(10, da.options()), at::arange(10, a.options())));
  EXPECT_EQ(da.sum().item<float>(), a.sum().item<float>());
}

TEST_F(Operators, WriteInPlaceAndThroughViews) {
  at::Tensor here = a.clone(), there = da.clone();
  here.add_(b).relu_();
  there.add_(db).relu_();
  EXPECT_TRUE(same(there, here));
  here.select(0, 2).fill_(7), there.select(0, 2).fill_(7);
  here.view({-1}).narrow(0, 0, 3).zero_(), there.view({-1}).narrow(0, 0, 3).zero_();
  EXPECT_TRUE(same(there, here));
  EXPECT_TRUE(same(da.t().contiguous(), a.t().contiguous()));
  EXPECT_TRUE(same(da.split(2)[1], a.split(2)[1]));
  here.t().copy_(b.t().to(at::kDouble)), there.t().copy_(db.t().to(at::kDouble));
  EXPECT_TRUE(same(there, here));
}

TEST_F(Operators, WriteToGivenResults) {
  at::Tensor right = at::empty({6, 4}, da.options()), small = at::empty({0}, da.options());
  at::mm_out(right, da, dw), at::mm_out(small, da, dw);
  EXPECT_TRUE(same(right, at::mm(a, w)));
  EXPECT_TRUE(same(small, at::mm(a, w)));
  const at::Tensor rows = at::tensor({1, 3});
  at::Tensor selected = at::empty({0}, da.options());
  at::index_select_out(selected, da, 0, rows.to(cuda_0));
  EXPECT_TRUE(same(selected, at::index_select(a, 0, rows)));
}

TEST_F(Operators, TakeIndices) {
  const at::Tensor rows = at::tensor({0, 2, 0});
  EXPECT_TRUE(same(da.index({rows.to(cuda_0)}), a.index({rows})));
  EXPECT_TRUE(same(da.index({da > 0}), a.index({a > 0})));
  at::Tensor here = a.clone(), there = da.clone();
  here.index_put_({rows}, at::ones({3, 5}), true);
  there.index_put_({rows.to(cuda_0)}, at::ones({3, 5}, da.options()), true);
  EXPECT_TRUE(same(there, here));
}

TEST_F(Operators, ResizeAndSetTensors) {
  at::Tensor there = da.clone();
  there.resize_({7, 5});
  EXPECT_TRUE(at::equal(there.narrow(0, 0, 6).cpu(), a));
  there.set_(da.storage(), 5, {2, 5}, {5, 1});
  EXPECT_TRUE(same(there, a.narrow(0, 1, 2)));
  const at::Tensor over = at::from_blob(da.data_ptr(), {6, 5}, da.options());
  EXPECT_TRUE(same(over, a));
}

TEST_F(Operators, DrawTheSameNumbersFromASeed) {
  at::manual_seed(5);
  const at::Tensor first = at::randn({4}, da.options());
  at::manual_seed(5);
  EXPECT_TRUE(same(at::randn({4}, da.options()), first.cpu()));
}

TEST_F(Operators, RefuseMixedDevicesAndWrongShapes) {
  EXPECT_THROW(at::mm(da, w), c10::Error);
  EXPECT_THROW(da + b, c10::Error);
  EXPECT_THROW(at::mm(da, da), c10::Error);
}

TEST_F(Operators, AddFloat32SumsOfBfloat16Products) {
  const at::Tensor x = a.to(at::kBFloat16), y = w.to(at::kBFloat16), sum = at::randn({6, 4});
  at::Tensor there = sum.to(cuda_0);
  at::addmm_out(there, there, x.to(cuda_0), y.to(cuda_0), at::kFloat);
  EXPECT_TRUE(at::allclose(there.cpu(), at::addmm(sum, x.to(at::kFloat), y.to(at::kFloat))));
  EXPECT_THROW(at::mm(da, dw, at::kDouble), c10::Error);
}

// As cuBLAS takes operands: a copy of the one whose rows and columns both have gaps, or whose rows are one.
TEST_F(Operators, CopyOperandsOfProductsThatHaveGaps) {
  const at::Tensor x = at::ones({12, 10}, at::kBFloat16).to(cuda_0), y = w.to(at::kBFloat16).to(cuda_0);
  const auto requests = [&](const at::Tensor& left) { return requests_of([&] { at::mm(left, y, at::kFloat); }); };
  EXPECT_THAT(requests(x.narrow(1, 0, 5)), testing::ElementsAre(12 * 4 * 4));
  EXPECT_THAT(requests(x.as_strided({6, 5}, {20, 2})), testing::ElementsAre(6 * 4 * 4, 6 * 5 * 2));
  EXPECT_THAT(requests(x[0].narrow(0, 0, 5).expand({6, 5})), testing::ElementsAre(6 * 4 * 4, 6 * 5 * 2));
}

// The device changes the type of a copy that the host does not wait for, in a tensor of its own; the host that of
// others.
TEST_F(Operators, CopyWithTheTemporariesOfCuda) {
  at::Tensor low = at::empty({6, 5}, da.options().dtype(at::kBFloat16)), here = at::empty({6, 5});
  const auto requests = [](at::Tensor& to, const at::Tensor& from, bool non_blocking) {
    return requests_of([&] { to.copy_(from, non_blocking); });
  };
  EXPECT_THAT(requests(low, a, false), testing::ElementsAre());
  EXPECT_THAT(requests(low, a, true), testing::ElementsAre(6 * 5 * 4));
  EXPECT_TRUE(same(low, a.to(at::kBFloat16)));
  EXPECT_THAT(requests(here, low, false), testing::ElementsAre());
  EXPECT_THAT(requests(here, low, true), testing::ElementsAre(6 * 5 * 4));
  cudaDeviceSynchronize();
  EXPECT_TRUE(at::equal(here, a.to(at::kBFloat16).to(at::kFloat)));
  const at::Tensor turned = da.t().contiguous().t();
  EXPECT_THAT(requests(here, turned, false), testing::ElementsAre(6 * 5 * 4));
  EXPECT_TRUE(at::equal(here, a));
  at::Tensor wide = at::empty({6, 10}, da.options()), half = wide.narrow(1, 0, 5);
  EXPECT_THAT(requests(half, a, false), testing::ElementsAre(6 * 5 * 4));
  EXPECT_TRUE(same(half, a));
}

TEST_F(Operators, UpdateByFusedAdamW) {
  const auto run = [&](c10::Device device) {
    const auto on = [&](const at::Tensor& t) {
      return std::vector<at::Tensor>{t.to(device, /*non_blocking=*/false, true)};
    };
    const auto p = on(a), g = on(b), m = on(at::zeros_like(a)), v = on(at::zeros_like(a));
    at::_fused_adamw_(p, g, m, v, {}, on(at::ones({})), 0.1, 0.9, 0.95, 0.1, 1e-8, false, false,
                      at::full({1}, 2.0).to(device), at::zeros({1}).to(device));
    return p[0].cpu();
  };
  EXPECT_TRUE(at::equal(run(cuda_0), run(at::kCPU)));
}

TEST_F(Operators, LeadAutogradToTheDeviceSThread) {
  const auto gradients = [&](c10::Device device) {
    at::Tensor x = a.clone().to(device).requires_grad_(), y = w.clone().to(device).requires_grad_();
    at::gelu(at::mm(x, y)).pow(2).sum().backward();
    return std::pair(x.grad().cpu(), y.grad().cpu());
  };
  EXPECT_TRUE(at::allclose(gradients(cuda_0).first, gradients(at::kCPU).first));
  EXPECT_TRUE(at::allclose(gradients(cuda_0).second, gradients(at::kCPU).second));
}

}  // namespace
}  // namespace memo::cuda::emulated
