#include "memo/gpu/allocator.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <torch/csrc/cuda/CUDAPluggableAllocator.h>

#include <memory>
#include <mutex>
#include <unordered_map>

#include "memo/torch/allocator.h"

namespace memo::gpu {
namespace {

namespace caching = c10::cuda::CUDACachingAllocator;

class PlannedAllocator final : public torch::cuda::CUDAPluggableAllocator::CUDAPluggableAllocator {
 public:
  explicit PlannedAllocator(caching::CUDAAllocator& inner)
      : CUDAPluggableAllocator([this](std::size_t bytes, int, cudaStream_t stream) { return take(bytes, stream); },
                               [this](void* address, std::size_t bytes, int, cudaStream_t) { give(address, bytes); }),
        inner_(inner) {}

  void init(int devices) override {
    inner_.init(devices);
    initialized_ = true;
  }
  void emptyCache(c10::cuda::MempoolId_t pool) override { inner_.emptyCache(pool); }
  void cacheInfo(c10::DeviceIndex device, std::size_t* largest) override { inner_.cacheInfo(device, largest); }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    return inner_.getDeviceStats(device);
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override { inner_.resetAccumulatedStats(device); }
  void resetPeakStats(c10::DeviceIndex device) override { inner_.resetPeakStats(device); }
  std::string name() override { return "memo"; }

 private:
  // The caching allocator of one stream, with the recorders of what is logged.
  struct Through final : edge::Heap {
    Through(PlannedAllocator& owner, cudaStream_t on) : Heap(c10::DeviceType::CUDA), allocator(owner), stream(on) {}
    void* allocate(std::size_t bytes, std::uint64_t recorder) override {
      void* address = allocator.inner_.raw_alloc_with_stream(bytes, stream);
      if (recorder != 0) {
        const std::lock_guard lock(allocator.mutex_);
        allocator.recorders_[address] = recorder;
      }
      return address;
    }
    PlannedAllocator& allocator;
    cudaStream_t stream;
  };

  void* take(std::size_t bytes, cudaStream_t stream) {
    if (bytes == 0) return nullptr;
    Through heap(*this, stream);
    return edge::allocate_in_scope(bytes, heap);
  }

  void give(void* address, std::size_t bytes) {
    if (address == nullptr) return;
    if (edge::in_arena(address)) return edge::tell_scopes(address, 0, 0);
    std::uint64_t recorder = 0;
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = recorders_.find(address); found != recorders_.end()) {
        recorder = found->second;
        recorders_.erase(found);
      }
    }
    if (recorder != 0) edge::tell_scopes(address, bytes, recorder);
    inner_.raw_delete(address);
  }

  caching::CUDAAllocator& inner_;
  std::mutex mutex_;  // guards:
  std::unordered_map<void*, std::uint64_t> recorders_;
};

}  // namespace

void install_allocator() {
  static const bool installed = [] {
    torch::cuda::CUDAPluggableAllocator::changeCurrentAllocator(std::make_shared<PlannedAllocator>(*caching::get()));
    return true;
  }();
  static_cast<void>(installed);
}

}  // namespace memo::gpu
