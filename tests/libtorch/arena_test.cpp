// The arena: exactly the bytes asked for, resident as they are touched; and a whole call inside one.
#include "memo/libtorch/memory/arena.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "memo/libtorch/memory/allocator.h"

namespace memo::libtorch {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const std::int64_t page = sysconf(_SC_PAGESIZE);

TEST(ArenaTest, PagesAreResidentFromTheirFirstUse) {
  const Arena arena = *Arena::map(Bytes(100 * page + 1));
  EXPECT_EQ(arena.bytes(), Bytes(100 * page + 1));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.data()) % static_cast<std::uintptr_t>(page), 0U);
  EXPECT_EQ(arena.resident(), Bytes(0));
  std::memset(arena.data(), 1, static_cast<std::size_t>(10 * page + 1));
  EXPECT_EQ(arena.resident(), Bytes(11 * page));
  arena.data()[100 * page] = std::byte{1};
  EXPECT_EQ(arena.resident(), Bytes(12 * page));
}

// Large arenas may have huge pages: what is counted is then exact to one of them at either end.
TEST(ArenaTest, ManyPagesAreCounted) {
  const Arena arena = *Arena::map(Bytes(200'000 * page));
  EXPECT_EQ(arena.resident(), Bytes(0));
  const std::int64_t first = 70'000, pages = 60'000;  // across the borders of what is counted at once
  std::memset(arena.data() + first * page, 1, static_cast<std::size_t>(pages * page));
  const std::int64_t huge = (2 << 20) / page;
  EXPECT_GE(arena.resident(), Bytes(pages * page));
  EXPECT_LE(arena.resident(), Bytes((pages + 2 * huge) * page));
}

TEST(ArenaTest, MemoryOfAnotherDeviceIsKeptAndCountsWhole) {
  bool freed = false;
  {
    const Arena arena(std::shared_ptr<std::byte>(new std::byte[100],
                                                 [&](const std::byte* memory) {
                                                   freed = true;
                                                   delete[] memory;
                                                 }),
                      Bytes(100));
    EXPECT_EQ(arena.resident(), Bytes(100));
    EXPECT_FALSE(freed);
  }
  EXPECT_TRUE(freed);
}

TEST(ArenaTest, ItsMemoryStaysUntilTheLastBlockThereIsFreed) {
  install_allocator();
  bool freed = false;
  auto memory = std::shared_ptr<std::byte>(new (std::align_val_t(64)) std::byte[256], [&](std::byte* begin) {
    freed = true;
    operator delete[](begin, std::align_val_t(64));
  });
  auto arena = std::make_unique<Arena>(memory, Bytes(256));
  std::byte* const data = memory.get();
  memory.reset();
  at::Tensor first, second;
  {
    const std::vector<PlannedRequest> requests{{Bytes(64), data, true}, {Bytes(128), data + 128, true}};
    const PlannedScope scope(requests);
    first = at::empty({16}), second = at::empty({32});
  }
  EXPECT_EQ(second.const_data_ptr(), data + 128);
  EXPECT_EQ(blocks_in_arena(data), 2);
  first.reset();
  EXPECT_EQ(blocks_in_arena(data), 1);
  arena.reset();
  EXPECT_FALSE(freed);
  EXPECT_TRUE(in_arena(data));
  second.fill_(1);
  second.reset();
  EXPECT_TRUE(freed);
  EXPECT_FALSE(in_arena(data));
}

TEST(ArenaTest, MayBeCleared) {
  Arena arena = *Arena::map(Bytes(10 * page));
  std::memset(arena.data(), 1, static_cast<std::size_t>(10 * page));
  arena.clear();
  EXPECT_EQ(arena.resident(), Bytes(0));
  EXPECT_EQ(arena.data()[page], std::byte{0});
}

TEST(ArenaTest, MovesLeaveOneOwner) {
  Arena a = *Arena::map(Bytes(page));
  std::byte* data = a.data();
  *data = std::byte{7};
  Arena b = std::move(a);
  a = *Arena::map(Bytes(2 * page));
  b = std::move(a);
  EXPECT_EQ(b.bytes(), Bytes(2 * page));
  EXPECT_NE(b.data(), nullptr);
}

TEST(ArenaTest, NothingIsAnArenaToo) {
  const Arena arena = *Arena::map(Bytes(0));
  EXPECT_EQ(arena.resident(), Bytes(0));
}

TEST(ArenaTest, MoreThanTheAddressSpaceIsARunTimeError) {
  const auto arena = Arena::map(Bytes(std::int64_t{1} << 60));
  ASSERT_FALSE(arena);
  EXPECT_EQ(arena.error().kind, ErrorKind::run_time);
  EXPECT_THAT(arena.error().message, HasSubstr("cannot map an arena of"));
  EXPECT_THAT(arena.error().message, HasSubstr("lower memory.device_limit"));
}

// linear, gelu, linear, and the gradients of its sum: {y, dx, dw1, dw2}.
struct Perceptron {
  at::Tensor w1 = at::randn({192, 64}).requires_grad_(), b1 = at::randn({192}).requires_grad_();
  at::Tensor w2 = at::randn({64, 192}).requires_grad_();

  std::vector<at::Tensor> operator()(const at::Tensor& x) const {
    auto y = at::linear(at::gelu(at::linear(x, w1, b1)), w2);
    auto results = torch::autograd::grad({y}, {x, w1, w2}, {at::ones_like(y)});
    results.push_back(y.detach());
    return results;
  }
};

// Each request of a recorded call at an address of its own; what was not freed outlives the call.
std::vector<PlannedRequest> lay_out(const std::vector<AllocationEvent>& events, const Arena& arena) {
  std::vector<PlannedRequest> requests;
  std::map<const void*, std::size_t> live;
  std::byte* next = arena.data();
  for (const auto& event : events) {
    if (event.is_malloc) {
      live[event.address] = requests.size();
      requests.push_back({event.bytes, next, true});
      next += round_up(event.bytes, allocation_alignment).value();
    } else {
      requests[live.at(event.address)].outlives = false;
    }
  }
  return requests;
}

class PlannedCallTest : public testing::Test {
 protected:
  PlannedCallTest() {
    install_allocator();
    at::manual_seed(1);
    perceptron = Perceptron();
    x = at::randn({512, 64}).requires_grad_();  // [block, hidden], large enough for LibTorch's worker threads
    perceptron(x);                              // what LibTorch allocates once is not the call's
    RecordingScope recording;
    expected = perceptron(x);
    requests = lay_out(recording.events(), arena);
  }
  Arena arena = *Arena::map(Bytes(64 << 20));
  Perceptron perceptron;
  at::Tensor x;
  std::vector<at::Tensor> expected;
  std::vector<PlannedRequest> requests;
};

TEST_F(PlannedCallTest, ARecordedCallRunsAgainInsideTheArenaBitForBit) {
  EXPECT_GE(requests.size(), 6U);
  const Bytes heap_before = heap_use().live;
  reset_heap_peak();
  std::vector<at::Tensor> results;
  {
    PlannedScope planned(requests);
    results = perceptron(x);
    EXPECT_THAT(planned.finish(), IsEmpty());
    EXPECT_EQ(planned.unused(), 0);
  }
  EXPECT_EQ(heap_use().peak, heap_before) << "nothing went to the heap, on any thread";
  EXPECT_GT(arena.resident(), Bytes(512 * 192 * 4));
  ASSERT_EQ(results.size(), expected.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto* address = static_cast<const std::byte*>(results[i].const_data_ptr());
    EXPECT_TRUE(address >= arena.data() && address < arena.data() + arena.bytes().value()) << i;
    EXPECT_TRUE(at::equal(results[i], expected[i])) << i;
  }
}

TEST_F(PlannedCallTest, ACallOfAnotherSizeDepartsAndIsStillRight) {
  const auto longer = at::randn({700, 64}).requires_grad_();
  const auto right = perceptron(longer);
  PlannedScope planned(requests);
  const auto results = perceptron(longer);
  const auto& departures = planned.finish();
  ASSERT_FALSE(departures.empty());
  EXPECT_EQ(describe(departures[0]), "allocation 0 of 537600 bytes went to the heap: the plan has 393216 bytes");
  for (std::size_t i = 0; i < results.size(); ++i) EXPECT_TRUE(at::equal(results[i], right[i])) << i;
}

}  // namespace
}  // namespace memo::libtorch
