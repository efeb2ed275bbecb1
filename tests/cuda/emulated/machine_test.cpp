// The emulated runtime itself: what it keeps of CUDA's rules, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/cuda/emulated/gpu.h"

namespace memo::cuda::emulated {
namespace {

constexpr std::size_t size = 4096;

struct Emulation : testing::Test {
  explicit Emulation(const Settings& settings = {}) : gpu(settings) {}
  cudaStream_t compute = nullptr, out = nullptr;
  void SetUp() override { compute = gpu.device->compute(), out = gpu.device->out(); }
  // Copies all of `host` to `device`, or back.
  void fill(cudaStream_t stream) {
    ASSERT_EQ(cudaMemcpyAsync(device, host.data(), size, cudaMemcpyHostToDevice, stream), cudaSuccess);
  }
  void fetch(cudaStream_t stream) {
    ASSERT_EQ(cudaMemcpyAsync(host.data(), device, size, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  }

  Gpu gpu;
  std::byte* device = gpu.memory(size);
  HostMemory host = sure(HostMemory::map(*gpu.device, Bytes(size), "test"));
};
struct LateEmulation : Emulation {
  LateEmulation() : Emulation({.pace = Pace::late}) {}
};
using EmulationDeathTest = Emulation;

TEST_F(EmulationDeathTest, TheHostCannotTouchDeviceMemory) {
  EXPECT_DEATH(*static_cast<volatile std::byte*>(device) = std::byte{1}, "");
  EXPECT_DEATH(
      {
        const std::byte seen = *static_cast<volatile std::byte*>(device + size - 1);
        (void)seen;
      },
      "");
}

TEST_F(LateEmulation, ACopyReadsItsSourceWhenItRuns) {
  host.data()[7] = std::byte{1};
  fill(compute);
  host.data()[7] = std::byte{2};
  fetch(compute);
  host.data()[7] = std::byte{3};
  EXPECT_EQ(host.data()[7], std::byte{3}) << "nothing runs yet";
  ASSERT_EQ(cudaStreamSynchronize(compute), cudaSuccess);
  EXPECT_EQ(host.data()[7], std::byte{3}) << "both copies saw what the host wrote last";
}

TEST_F(LateEmulation, OnlyWhatTheHostWaitsForRuns) {
  host.data()[0] = std::byte{1};
  fill(out);
  const Event filled = sure(make_event(0));
  ASSERT_EQ(cudaEventRecord(filled.get(), out), cudaSuccess);
  fetch(out);  // not waited for
  ASSERT_EQ(cudaStreamWaitEvent(compute, filled.get(), 0), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(filled.get()), cudaErrorNotReady);
  ASSERT_EQ(cudaStreamSynchronize(compute), cudaSuccess);  // and so for `filled`
  EXPECT_EQ(cudaEventQuery(filled.get()), cudaSuccess);
  host.data()[0] = std::byte{9};
  ASSERT_EQ(cudaStreamSynchronize(out), cudaSuccess);
  EXPECT_EQ(host.data()[0], std::byte{1});
}

TEST_F(LateEmulation, AWaitTakesTheEventAsItIsThen) {
  const Event event = sure(make_event(0));
  ASSERT_EQ(cudaStreamWaitEvent(compute, event.get(), 0), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(compute), cudaSuccess) << "never recorded: nothing to wait for";
  ASSERT_EQ(cudaEventRecord(event.get(), out), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(compute, event.get(), 0), cudaSuccess);
  fill(out);
  ASSERT_EQ(cudaEventRecord(event.get(), out), cudaSuccess);  // another meaning from here on, not for the wait above
  ASSERT_EQ(cudaStreamSynchronize(compute), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event.get()), cudaErrorNotReady);
  ASSERT_EQ(cudaEventSynchronize(event.get()), cudaSuccess);
}

TEST_F(LateEmulation, TimesAreKnownWhenEventsHaveEnded) {
  const Event start = sure(make_event(0)), end = sure(make_event(0)),
              untimed = sure(make_event(cudaEventDisableTiming));
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start.get(), end.get()), cudaErrorInvalidResourceHandle);
  for (const Event* event : {&start, &end, &untimed}) ASSERT_EQ(cudaEventRecord(event->get(), out), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start.get(), end.get()), cudaErrorNotReady);
  ASSERT_EQ(cudaEventSynchronize(untimed.get()), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start.get(), end.get()), cudaSuccess);
  EXPECT_GE(milliseconds, 0);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start.get(), untimed.get()), cudaErrorInvalidResourceHandle);
}

TEST_F(Emulation, AStreamRunsInOrderAtRandomPacesToo) {
  set_pace(out, Pace::random);
  std::vector<int> order;
  struct Note {
    std::vector<int>* order;
    int number;
  };
  std::vector<Note> notes;
  for (int i = 0; i < 50; ++i) notes.push_back({&order, i});
  for (Note& note : notes)
    ASSERT_EQ(cudaLaunchHostFunc(
                  out,
                  [](void* data) {
                    auto* it = static_cast<Note*>(data);
                    it->order->push_back(it->number);
                  },
                  &note),
              cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(out), cudaSuccess);
  std::vector<int> expected(50);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST_F(Emulation, AHostFunctionMayNotCallTheRuntime) {
  cudaError_t result = cudaSuccess;
  const auto ask = [](void* data) {
    int count = 0;
    *static_cast<cudaError_t*>(data) = cudaGetDeviceCount(&count);
  };
  ASSERT_EQ(cudaLaunchHostFunc(compute, ask, &result), cudaSuccess);
  EXPECT_EQ(result, cudaErrorNotPermitted);
}

TEST_F(Emulation, CopiesOutsideOfWhatWasAllocatedAndRegisteredAreRefused) {
  std::vector<std::byte> pageable(size);
  EXPECT_EQ(cudaMemcpyAsync(device, pageable.data(), size, cudaMemcpyHostToDevice, compute), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), device + 1, size, cudaMemcpyDeviceToHost, compute), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(device, host.data() + 1, size, cudaMemcpyHostToDevice, compute), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), host.data(), 16, cudaMemcpyDeviceToHost, compute), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(LateEmulation, MemoryThatIsUnregisteredUnderACopyBreaksTheDevice) {
  fill(compute);
  ASSERT_EQ(cudaHostUnregister(host.data()), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(compute), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(compute), cudaErrorIllegalAddress) << "from now on, as after a faulty kernel";
}

}  // namespace
}  // namespace memo::cuda::emulated
