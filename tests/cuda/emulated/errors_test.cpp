// What the backend says when the machine is not as it should be: one line each, with what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cuda/emulated/gpu.h"
#include "tests/cuda/pattern_step.h"
#include "tests/cuda/small_plans.h"

namespace memo::cuda::emulated {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

auto one_line_with(const auto&... parts) { return AllOf(Not(HasSubstr("\n")), HasSubstr(parts)...); }

TEST(CudaErrors, NoGpu) {
  Gpu gpu({.devices = 0});
  EXPECT_THAT(gpu.refusal, one_line_with("cudaErrorNoDevice", "nvidia-smi", "CUDA_VISIBLE_DEVICES"));
}

TEST(CudaErrors, OneGpuOfSeveral) {
  const Fresh machine({.devices = 8});
  ASSERT_EQ(cudaSetDevice(2), cudaSuccess);
  {
    const auto device = Device::open(Device::Compute::own_stream, 3);
    ASSERT_TRUE(device);
    EXPECT_EQ(device->index(), 3);
    const Current there(device->index());
    EXPECT_EQ(device_of(Device::allocate(Bytes(64))->get()), 3);
  }
  int current = -1;
  EXPECT_EQ(cudaGetDevice(&current), cudaSuccess);
  EXPECT_EQ(current, 2);
  const auto none = Device::open(Device::Compute::own_stream, 8);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, one_line_with("no GPU 8", "8 are visible"));
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

TEST(CudaErrors, ASliceOfAGpu) {
  Gpu gpu({.name = "NVIDIA H100 80GB HBM3 MIG 1g.10gb"});
  EXPECT_THAT(gpu.refusal, one_line_with("MIG 1g.10gb is a slice", "whole GPU"));
}

TEST(CudaErrors, AnOldDriver) {
  const Fresh machine({});
  fail("cudaGetDeviceCount", cudaErrorInsufficientDriver);
  const auto device = Device::open();
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().kind, ErrorKind::run_time);
  EXPECT_THAT(device.error().message, one_line_with("no driver of NVIDIA, or one too old", "install"));
}

TEST(CudaErrors, AGpuThatAnotherProcessHolds) {
  const Fresh machine({});
  fail("cudaSetDevice", cudaErrorDevicesUnavailable);
  EXPECT_THAT(Device::open().error().message, one_line_with("another process holds the GPU"));
}

TEST(CudaErrors, ADriverThatDoesNotKnowTheGpusNode) {
  const Fresh machine({});
  fail("cudaDeviceGetAttribute", cudaErrorInvalidValue);
  EXPECT_EQ(sure(Device::open()).host_node(), -1);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(CudaErrors, NoMemoryForAnEvent) {
  Gpu gpu;
  fail("cudaEventCreateWithFlags", cudaErrorMemoryAllocation, 20);
  const auto engine = copy_engine(*gpu.device, {});
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, one_line_with("make an event", "out of memory", "nvidia-smi"));
}

TEST(CudaErrors, OutOfDeviceMemory) {
  Gpu gpu({.device_bytes = 3 << 20});
  gpu.memory(1 << 20);
  const auto memory = Device::allocate(Bytes(4 << 20));
  ASSERT_FALSE(memory);
  EXPECT_THAT(memory.error().message,
              one_line_with("4.00 MiB", "2.00 MiB of 3.00 MiB are free", "nvidia-smi", "device_limit"));
  EXPECT_TRUE(Device::allocate(Bytes(2 << 20)));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "PyTorch does not find the error";
}

TEST(CudaErrors, RegistrationOverTheLimitOfLockedMemory) {
  Gpu gpu({.lockable_bytes = 1 << 20});
  for (int again = 0; again < 2; ++again) {
    const auto tier = host_tier(*gpu.device, Bytes(2 << 20));
    ASSERT_FALSE(tier);
    EXPECT_THAT(tier.error().message,
                one_line_with("host tier", "register 2.00 MiB", "ulimit -l unlimited", "memlock", "host_limit"));
  }
  EXPECT_TRUE(host_tier(*gpu.device, Bytes(1 << 20))) << "what failed left nothing behind";
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(CudaErrors, MoreHostMemoryThanTheAddressSpace) {
  Gpu gpu;
  const auto tier = host_tier(*gpu.device, Bytes(std::int64_t{1} << 60));
  ASSERT_FALSE(tier);
  EXPECT_THAT(tier.error().message, one_line_with("host tier", "cannot map", "host_limit"));
}

TEST(CudaErrors, TheHostTierMayBeEmpty) {
  Gpu gpu;
  EXPECT_TRUE(host_tier(*gpu.device, Bytes(0)));
}

TEST(CudaErrorsDeathTest, ACopyOutsideTheHostTierBreaksAnInvariant) {
  Gpu gpu;
  const auto tier = gpu.host_tier(Bytes(4096));
  EXPECT_DEATH((void)tier->pinned(1, 4096), "a copy lies inside its tier");
}

TEST(CudaErrors, StagingThatCannotBeRegistered) {
  Gpu gpu({.lockable_bytes = 1 << 20});
  const auto tier = sure(exec::host_tier(Bytes(4096)));
  const auto engine = copy_engine(*gpu.device, {tier.get()}, {Bytes(1 << 20), 2});
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, one_line_with("staging slots", "ulimit -l unlimited"));
}

// Whichever call of a step is the first to fail, the step ends with the reason, and nothing hangs.
TEST(CudaErrors, ALostDeviceEndsTheStep) {
  struct Nothing : exec::Compute {
    Status run(plan::CallIndex) override { return {}; }
  } compute;
  const plan::Plan plan = swapped_plan(2);
  for (const bool registered : {true, false})
    for (const Pace pace : {Pace::prompt, Pace::late})
      for (int after = 0;; after += 1 + after / 3) {
        Gpu gpu({.pace = pace});
        gpu.staging = {Bytes(8192), 2};
        const Bytes bytes = plan.program.tier_bytes[0];
        const auto tier = registered ? gpu.host_tier(bytes) : sure(exec::host_tier(bytes));
        auto engine = gpu.engine({tier.get()});
        std::byte* memory = gpu.memory(static_cast<std::size_t>(plan.program.arena.value()));
        fail("", cudaErrorLaunchFailure, after);
        const auto report = exec::run_step(plan.program, memory, compute, *engine);
        const bool lost = !engine->drain();
        engine.reset();
        heal();
        if (report) {
          ASSERT_GT(after, 100) << "a step makes more calls";
          break;
        }
        EXPECT_TRUE(lost) << "it stays so";
        EXPECT_EQ(report.error().kind, ErrorKind::run_time);
        EXPECT_THAT(report.error().message,
                    one_line_with("cudaErrorLaunchFailure", "the GPU is lost", "Xid", "--resume"));
      }
}

}  // namespace
}  // namespace memo::cuda::emulated
