// The allocator under LibTorch: counts its heap, records calls, serves planned addresses and names what departs.
#include "memo/libtorch/memory/allocator.h"

#include <ATen/Functions.h>
#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <thread>

#include "memo/libtorch/memory/arena.h"

namespace memo::libtorch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::int64_t MiB = 1 << 20;

std::int64_t resident_bytes() {
  std::int64_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// One allocation of LibTorch's, freed with the object.
c10::DataPtr allocate(std::size_t bytes) { return c10::GetCPUAllocator()->allocate(bytes); }

class AllocatorTest : public testing::Test {
 protected:
  AllocatorTest() { install_allocator(); }
  // Planned requests of the given sizes, one after the other in the arena.
  std::vector<PlannedRequest> side_by_side(const std::vector<std::int64_t>& sizes) const {
    std::vector<PlannedRequest> requests;
    std::byte* address = arena.data();
    for (const std::int64_t size : sizes) {
      requests.push_back({Bytes(size), address});
      address += round_up(Bytes(size), allocation_alignment).value();
    }
    return requests;
  }
  bool in_arena(const void* address) const {
    return address >= arena.data() && address < arena.data() + arena.bytes().value();
  }
  Arena arena = *Arena::map(Bytes(MiB));
};

using HeapTest = AllocatorTest;

TEST_F(HeapTest, CountsLiveBytesAndTheirPeak) {
  const Bytes before = heap_use().live;
  reset_heap_peak();
  {
    const auto small = at::empty({100}, at::kByte);
    { const auto large = at::empty({3 * MiB}, at::kByte); }
    EXPECT_EQ(heap_use().live, before + Bytes(100));
  }
  EXPECT_EQ(heap_use().live, before);
  EXPECT_EQ(heap_use().peak, before + Bytes(100 + 3 * MiB));
  reset_heap_peak();
  EXPECT_EQ(heap_use().peak, before);
}

TEST_F(HeapTest, BlocksAreAlignedWhateverTheirSize) {
  for (const std::size_t bytes : {1UL, 63UL, 64UL, 65UL, 4096UL, 1048575UL, 1048576UL, 1048577UL}) {
    const auto block = allocate(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.get()) % allocation_alignment, 0U) << bytes;
    std::memset(block.get(), 1, bytes);
  }
}

TEST_F(HeapTest, ResidentMemoryFollowsLiveBytes) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the sanitizer's own memory follows what is touched";
#endif
  const std::int64_t before = resident_bytes();
  {
    std::vector<at::Tensor> tensors;
    for (int i = 0; i < 32; ++i) tensors.push_back(at::ones({2 * MiB}, at::kByte));
    EXPECT_GT(resident_bytes(), before + 60 * MiB);
  }
  EXPECT_LT(resident_bytes(), before + 4 * MiB);
}

TEST_F(HeapTest, CountsWhatOtherThreadsAllocateAndFree) {
  const Bytes before = heap_use().live;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int k = 1; k < 2000; ++k) allocate(static_cast<std::size_t>(k * (i + 1)));
    });
  }
  for (auto& thread : threads) thread.join();
  auto tensor = at::empty({1000});
  std::thread([moved = std::move(tensor)]() mutable { moved.reset(); }).join();
  EXPECT_EQ(heap_use().live, before);
}

TEST_F(HeapTest, NothingIsAllocatedForZeroBytes) {
  const RecordingScope recording;
  EXPECT_EQ(allocate(0).get(), nullptr);
  EXPECT_EQ(c10::GetCPUAllocator()->raw_allocate(0), nullptr);
  c10::GetCPUAllocator()->raw_deallocate(nullptr);
  EXPECT_THAT(recording.events(), IsEmpty());
}

TEST_F(HeapTest, RawInterfaceAndCloneWork) {
  c10::Allocator* allocator = c10::GetCPUAllocator();
  const Bytes before = heap_use().live;
  void* raw = allocator->raw_allocate(5);
  std::memcpy(raw, "memo", 5);
  EXPECT_STREQ(static_cast<const char*>(allocator->clone(raw, 5).get()), "memo");
  allocator->raw_deallocate(raw);
  EXPECT_EQ(heap_use().live, before);
}

TEST_F(HeapTest, MoreThanThereIsThrowsOneLine) {
  try {
    allocate(std::size_t{1} << 60);
    FAIL() << "allocated an exbibyte";
  } catch (const c10::OutOfMemoryError& error) {
    EXPECT_THAT(error.what_without_backtrace(), HasSubstr("no memory for a tensor of 1152921504606846976 bytes"));
  }
}

TEST_F(HeapTest, InstallingAgainChangesNothing) {
  const c10::Allocator* first = c10::GetCPUAllocator();
  install_allocator();
  EXPECT_EQ(c10::GetCPUAllocator(), first);
}

using RecordingTest = AllocatorTest;

// Events as (is_malloc, bytes).
std::vector<std::pair<bool, std::int64_t>> shape_of(const std::vector<AllocationEvent>& events) {
  std::vector<std::pair<bool, std::int64_t>> shape;
  for (const auto& event : events) shape.emplace_back(event.is_malloc, event.bytes.value());
  return shape;
}

TEST_F(RecordingTest, LogsMallocsAndFreesInOrderWithTheirAddresses) {
  const RecordingScope recording;
  auto a = allocate(100);
  auto b = allocate(2 * MiB);
  const void* address = a.get();
  a.clear();
  b.clear();
  EXPECT_THAT(shape_of(recording.events()), ElementsAre(std::pair(true, 100), std::pair(true, 2 * MiB),
                                                        std::pair(false, 100), std::pair(false, 2 * MiB)));
  EXPECT_EQ(recording.events()[0].address, address);
  EXPECT_EQ(recording.events()[2].address, address);
}

TEST_F(RecordingTest, WhatWasAllocatedBeforeIsNotLogged) {
  auto before = allocate(100);
  const RecordingScope recording;
  before.clear();
  EXPECT_THAT(recording.events(), IsEmpty());
}

TEST_F(RecordingTest, FreesAfterTheScopeOrInALaterOneAreNotLogged) {
  c10::DataPtr kept, kept_longer;
  {
    const RecordingScope recording;
    kept = allocate(100);
    kept_longer = allocate(200);
  }
  kept.clear();
  const RecordingScope later;
  kept_longer.clear();
  EXPECT_THAT(later.events(), IsEmpty());
}

TEST_F(RecordingTest, OtherThreadsMallocsAreNotLoggedTheirFreesAre) {
  const RecordingScope recording;
  auto block = allocate(100);
  std::thread([&block] {
    block.clear();
    allocate(200);
  }).join();
  EXPECT_THAT(shape_of(recording.events()), ElementsAre(std::pair(true, 100), std::pair(false, 100)));
}

TEST_F(RecordingTest, TheInnermostScopeLogs) {
  const RecordingScope outer;
  c10::DataPtr of_outer = allocate(1);
  {
    const RecordingScope inner;
    allocate(2);
    of_outer.clear();
    EXPECT_THAT(shape_of(inner.events()), ElementsAre(std::pair(true, 2), std::pair(false, 2)));
  }
  allocate(3);
  EXPECT_THAT(shape_of(outer.events()),
              ElementsAre(std::pair(true, 1), std::pair(false, 1), std::pair(true, 3), std::pair(false, 3)));
}

using PlannedTest = AllocatorTest;

TEST_F(PlannedTest, TheKthAllocationGetsTheKthAddress) {
  const auto requests = side_by_side({100, 100, 300});
  const Bytes heap_before = heap_use().live;
  PlannedScope planned(requests);
  const auto a = allocate(100), nothing = allocate(0), b = allocate(100);
  EXPECT_EQ(a.get(), requests[0].address);
  EXPECT_EQ(b.get(), requests[1].address);
  EXPECT_EQ(nothing.get(), nullptr);
  EXPECT_EQ(planned.unused(), 1);
  EXPECT_EQ(allocate(300).get(), requests[2].address);
  EXPECT_EQ(planned.unused(), 0);
  EXPECT_THAT(planned.departures(), IsEmpty());
  EXPECT_EQ(heap_use().live, heap_before);
}

TEST_F(PlannedTest, ScopesOfAnotherDeviceLeaveAllocationsAlone) {
  const auto requests = side_by_side({100});
  PlannedScope planned(requests);
  const RecordingScope of_gpu(c10::DeviceType::CUDA);
  EXPECT_EQ(allocate(100).get(), requests[0].address) << "of the CPU's innermost scope";
  EXPECT_THAT(of_gpu.events(), IsEmpty());
}

TEST_F(PlannedTest, WhatIsUnplannedGoesToTheHeapAndDepartsFromNothing) {
  const auto requests = side_by_side({100});
  PlannedScope planned(requests);
  {
    const UnplannedScope other(c10::DeviceType::CPU);
    EXPECT_NE(allocate(100).get(), requests[0].address);
    allocate(7);
  }
  EXPECT_EQ(allocate(100).get(), requests[0].address);
  EXPECT_THAT(planned.finish(), IsEmpty());
}

TEST_F(PlannedTest, AnotherSizeGoesToTheHeapAndIsNamed) {
  const std::vector<PlannedRequest> nothing;
  PlannedScope planned(nothing);
  EXPECT_FALSE(in_arena(allocate(100).get()));
  ASSERT_EQ(planned.departures().size(), 1U);
  EXPECT_EQ(describe(planned.departures()[0]),
            "allocation 0 of 100 bytes went to the heap: the plan has no such request");

  const auto requests = side_by_side({64, 128});
  PlannedScope other(requests);
  const auto a = allocate(64), b = allocate(100), c = allocate(128);
  EXPECT_FALSE(in_arena(b.get()));
  EXPECT_EQ(c.get(), requests[1].address) << "a request that the plan lacks delays nothing";
  ASSERT_EQ(other.departures().size(), 1U);
  EXPECT_EQ(describe(other.departures()[0]), "allocation 1 of 100 bytes went to the heap: the plan has 128 bytes");
  EXPECT_EQ(other.unused(), 0);
}

TEST_F(PlannedTest, ARequestThatNeverComesIsSkippedWhenALaterOneMatches) {
  const auto requests = side_by_side({64, 128, 256, 512});
  PlannedScope planned(requests);
  const auto a = allocate(64), c = allocate(256), d = allocate(512);
  EXPECT_FALSE(in_arena(c.get()));
  EXPECT_EQ(d.get(), requests[3].address);
  EXPECT_EQ(planned.departures().size(), 1U);
  EXPECT_EQ(planned.unused(), 2);
}

TEST_F(PlannedTest, AddressesAreReusedWhenTheirBlocksWereFreed) {
  const std::vector<PlannedRequest> requests{{Bytes(256), arena.data()}, {Bytes(128), arena.data() + 128}};
  PlannedScope planned(requests);
  allocate(256).clear();
  EXPECT_EQ(allocate(128).get(), requests[1].address);
  EXPECT_THAT(planned.finish(), IsEmpty());
}

TEST_F(PlannedTest, AnAddressThatIsStillInUseIsNeverGivenOut) {
  const std::vector<PlannedRequest> requests{{Bytes(256), arena.data()}, {Bytes(128), arena.data() + 128}};
  PlannedScope planned(requests);
  const auto longer_than_planned = allocate(256);
  EXPECT_FALSE(in_arena(allocate(128).get()));
  ASSERT_EQ(planned.departures().size(), 1U);
  EXPECT_EQ(describe(planned.departures()[0]),
            "allocation 1 of 128 bytes went to the heap: its planned address is still in use");
}

TEST_F(PlannedTest, ATransientThatOutlivesTheCallIsADepartureAPlannedTensorIsNot) {
  auto requests = side_by_side({64, 64, 64});
  requests[1].outlives = true;
  PlannedScope planned(requests);
  const auto transient = allocate(64), tensor = allocate(64);
  allocate(64).clear();
  EXPECT_THAT(planned.departures(), IsEmpty());
  const auto departures = planned.finish();
  ASSERT_EQ(departures.size(), 1U);
  EXPECT_EQ(describe(departures[0]), "allocation 0 of 64 bytes outlived its call: the plan has it as a transient");
  EXPECT_FALSE(in_arena(allocate(64).get())) << "the call has ended";
}

TEST_F(PlannedTest, OtherThreadsFreePlannedBlocksAndAllocateOnTheHeap) {
  const auto requests = side_by_side({64, 64});
  PlannedScope planned(requests);
  auto a = allocate(64);
  std::thread([&] {
    a.clear();
    EXPECT_FALSE(in_arena(allocate(64).get()));
  }).join();
  const auto b = allocate(64);
  EXPECT_EQ(b.get(), requests[1].address);
  EXPECT_EQ(planned.finish().size(), 1U) << "only b is alive";
}

TEST_F(PlannedTest, ThreadsHaveTheirOwnPlans) {
  const auto requests = side_by_side({64, 128, 192, 256});
  const std::vector<PlannedRequest> halves[] = {{requests[0], requests[1]}, {requests[2], requests[3]}};
  std::vector<std::thread> threads;
  for (const auto& half : halves) {
    threads.emplace_back([&half] {
      for (int i = 0; i < 2000; ++i) {
        PlannedScope planned(half);
        for (const auto& request : half) {
          EXPECT_EQ(allocate(static_cast<std::size_t>(request.bytes.value())).get(), request.address);
        }
        EXPECT_THAT(planned.finish(), IsEmpty());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(PlannedTest, TheInnermostScopeServes) {
  const auto requests = side_by_side({64, 64});
  PlannedScope planned(requests);
  const auto a = allocate(64);
  {
    const RecordingScope recording;
    const auto unplanned = allocate(64);
    EXPECT_FALSE(in_arena(unplanned.get()));
    EXPECT_EQ(recording.events().size(), 1U);
  }
  EXPECT_EQ(allocate(64).get(), requests[1].address);
  EXPECT_THAT(planned.departures(), IsEmpty());
}

TEST_F(PlannedTest, BlocksFreedAfterTheirScopeHarmNothing) {
  auto requests = side_by_side({64});
  requests[0].outlives = true;
  c10::DataPtr tensor;
  {
    PlannedScope planned(requests);
    tensor = allocate(64);
  }
  const Bytes before = heap_use().live;
  tensor.clear();
  EXPECT_EQ(heap_use().live, before);
}

using PlannedDeathTest = AllocatorTest;

TEST_F(PlannedDeathTest, AddressesOutsideArenasOrMisalignedAreABrokenInvariant) {
  const std::vector<PlannedRequest> outside{{Bytes(64), arena.data() + MiB}};
  EXPECT_DEATH({ const PlannedScope planned(outside); }, "planned addresses lie in a registered arena");
  const std::vector<PlannedRequest> misaligned{{Bytes(64), arena.data() + 8}};
  EXPECT_DEATH({ const PlannedScope planned(misaligned); }, "planned addresses are aligned");
}

}  // namespace
}  // namespace memo::libtorch
