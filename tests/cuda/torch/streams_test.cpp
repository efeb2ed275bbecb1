// What shows on the emulated GPU and would be wrong on a real one: stray reads of the host, missing events, waits.
#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDAGuard.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "tests/cuda/torch/support.h"

namespace memo::cuda::emulated {
namespace {

at::Tensor ones() { return at::ones({64, 64}, at::device(cuda_0)); }

TEST(Memory, FaultsWhenTheHostTouchesIt) {
  const at::Tensor x = ones();
  EXPECT_EXIT(
      {
        volatile float value = *static_cast<const float*>(x.const_data_ptr());
        static_cast<void>(value);
        std::exit(0);
      },
      testing::KilledBySignal(SIGSEGV), "the emulated GPU's memory: address 0x[0-9a-f]+ of cuda:0, after aten::fill_");
}

TEST(Streams, RunNothingBeforeTheHostAsksWhereTheyAreLate) {
  const AtPace late(Pace::late);
  at::Tensor x = ones();
  const at::Tensor y = at::zeros({64, 64}, x.options());
  for (int i = 0; i < 10; ++i) x = at::mm(x, x).mul_(1.0 / 64).add_(y);
  EXPECT_FALSE(c10::cuda::getDefaultCUDAStream().query());
  EXPECT_TRUE(same(x, at::ones({64, 64})));
  EXPECT_TRUE(c10::cuda::getDefaultCUDAStream().query());
}

// Memory that the host lets go of is given again in the stream's order.
TEST(Streams, KeepMemoryInOrder) {
  const AtPace late(Pace::late);
  const at::Tensor x = ones();
  at::Tensor y = x * 2;
  const void* where = y.const_data_ptr();
  const at::Tensor z = y + 1;
  y = at::Tensor();
  const at::Tensor u = x * 3;
  EXPECT_EQ(u.const_data_ptr(), where);
  EXPECT_TRUE(same(z, at::full({64, 64}, 3.f)));
  EXPECT_TRUE(same(u, at::full({64, 64}, 3.f)));
}

TEST(Streams, ShowAMissingEvent) {
  const at::Tensor x = at::zeros({64}, at::device(cuda_0));
  const auto other = c10::cuda::getStreamFromPool();
  const AtPace late(Pace::late);
  x.add_(1);
  c10::Event event(c10::kCUDA);
  event.record(c10::cuda::getDefaultCUDAStream().unwrap());
  const c10::cuda::CUDAStreamGuard guard(other);
  EXPECT_TRUE(same(x, at::zeros({64}))) << "without an event the other stream reads what was there before";
  event.block(other.unwrap());
  EXPECT_TRUE(same(x, at::ones({64})));
}

TEST(Streams, GiveABlockThatAnotherStreamUsesOnlyBehindIt) {
  const auto other = c10::cuda::getStreamFromPool();
  set_pace(other.stream(), Pace::late);
  at::Tensor x = ones(), y;
  const void* where = x.const_data_ptr();
  {
    const c10::cuda::CUDAStreamGuard guard(other);
    y = x * 2;
    x.record_stream(other.unwrap());
  }
  x = at::Tensor();
  EXPECT_NE(ones().const_data_ptr(), where);
  other.synchronize();
  EXPECT_EQ(ones().const_data_ptr(), where);
  set_pace(other.stream(), Pace::prompt);
}

TEST(Waits, AreCountedAndNamed) {
  const auto before = host_waits();
  const auto new_waits = [&](const std::string& name) {
    const auto now = host_waits();
    const auto count = [&](const auto& waits) { return waits.contains(name) ? waits.at(name) : 0; };
    return count(now) - count(before);
  };
  const at::Tensor x = at::ones({4}).to(cuda_0, /*non_blocking=*/true);
  const at::Tensor y = x * 2 + 1;
  const at::Tensor z = at::gelu(y).sum();
  EXPECT_EQ(host_waits(), before);
  static_cast<void>(z.item<float>());
  static_cast<void>(y.cpu());
  static_cast<void>(y.nonzero());
  EXPECT_EQ(new_waits("aten::item: cudaStreamSynchronize"), 1);
  EXPECT_EQ(new_waits("aten::copy_ to the host: cudaStreamSynchronize"), 1);
  EXPECT_EQ(new_waits("aten::nonzero: cudaStreamSynchronize"), 1);
}

TEST(Failures, OfAKernelBreakTheDeviceByName) {
  EXPECT_EXIT(
      {
        try {
          at::_assert_async(at::zeros({}, at::device(cuda_0)));
        } catch (const c10::Error& error) {
          std::cerr << error.what_without_backtrace();
          std::_Exit(1);
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(1), "a kernel failed: aten::_assert_async: an assertion on the device failed");
}

}  // namespace
}  // namespace memo::cuda::emulated
