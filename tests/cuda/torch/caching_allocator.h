// The emulated GPU's caching allocator, by the rules of LibTorch's own (c10/cuda/CUDACachingAllocator.cpp): blocks
// belong to the stream that asked for them, and are given again in its order while earlier work may still use them.
#pragma once

#include <torch/csrc/cuda/CUDAPluggableAllocator.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <vector>

namespace memo::cuda::emulated {

class CachingAllocator final : public torch::cuda::CUDAPluggableAllocator::CUDAPluggableAllocator {
 public:
  CachingAllocator();

  c10::DataPtr allocate(std::size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void* raw_alloc(std::size_t bytes) override;
  void* raw_alloc_with_stream(std::size_t bytes, cudaStream_t stream) override;
  void raw_delete(void* address) override;
  void recordStream(const c10::DataPtr& block, c10::cuda::CUDAStream stream) override;
  bool initialized() override { return true; }
  void emptyCache(c10::cuda::MempoolId_t pool) override;
  void* getBaseAllocation(void* address, std::size_t* size) override;
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override;
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex device) override;

 private:
  struct Block {
    std::size_t bytes = 0, requested = 0;
    std::byte* segment = nullptr;  // where its segment begins: blocks of different segments never merge
    cudaStream_t stream = nullptr;
    int device = 0;
    bool small = false, used = false;
    std::set<cudaStream_t> others;  // streams besides its own that use it
    int pending = 0;                // of their events
  };
  using Blocks = std::map<std::byte*, Block>;
  struct Use {
    std::int64_t live = 0, peak = 0, requested = 0, most_requested = 0, segments = 0, most_segments = 0, count = 0;
  };

  static void give(void* address);
  Blocks::iterator find(std::size_t bytes, bool small, int device, cudaStream_t stream);
  Blocks::iterator grow(std::size_t bytes, bool small, int device, cudaStream_t stream);
  void split(Blocks::iterator block, std::size_t bytes);
  void put_back(Blocks::iterator block);
  void gather_events();
  void release_free_segments(int device);

  std::mutex mutex_;  // guards all members below
  Blocks blocks_;     // by address
  std::vector<std::pair<cudaEvent_t, std::byte*>> events_;
  std::map<int, Use> use_;
};

}  // namespace memo::cuda::emulated
