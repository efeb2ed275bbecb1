// A pluggable allocator that asks scopes first and the caching allocator second.
#include "memo/gpu/allocator.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/cuda/CUDAPluggableAllocator.h>

#include <functional>
#include <mutex>
#include <unordered_map>

#include "memo/libtorch/memory/allocator.h"

namespace memo::gpu {
namespace {

namespace caching = c10::cuda::CUDACachingAllocator;

// Allocations outside of scopes stay the caching allocator's own, as if this class were not there; so do blocks from
// before it was installed.
class PlannedAllocator final : public torch::cuda::CUDAPluggableAllocator::CUDAPluggableAllocator {
 public:
  explicit PlannedAllocator(caching::CUDAAllocator& inner) : CUDAPluggableAllocator({}, {}), inner_(inner) {}
  static PlannedAllocator& of_process() {
    // Never destroyed: it frees tensors of static life.
    static auto* const allocator = new PlannedAllocator(*caching::get());
    return *allocator;
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return inner_.allocate(bytes);
    Through heap(*this);
    void* address = libtorch::allocate_in_scope(bytes, heap);
    return {address, address, heap.plain ? inner_.raw_deleter() : &give,
            c10::Device(c10::DeviceType::CUDA, c10::cuda::current_device())};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void* raw_alloc(std::size_t bytes) override { return inner_.raw_alloc(bytes); }
  void* raw_alloc_with_stream(std::size_t bytes, cudaStream_t stream) override {
    return inner_.raw_alloc_with_stream(bytes, stream);
  }
  void raw_delete(void* address) override { give(address); }
  // The plan decides when planned memory is used again.
  void recordStream(const c10::DataPtr& block, c10::cuda::CUDAStream stream) override {
    if (block.get_deleter() != &give) inner_.recordStream(block, stream);
  }

  void init(int devices) override { inner_.init(devices); }
  bool initialized() override { return inner_.initialized(); }
  void setMemoryFraction(double fraction, c10::DeviceIndex device) override {
    inner_.setMemoryFraction(fraction, device);
  }
  void emptyCache(c10::cuda::MempoolId_t pool) override { inner_.emptyCache(pool); }
  void cacheInfo(c10::DeviceIndex device, std::size_t* largest) override { inner_.cacheInfo(device, largest); }
  void* getBaseAllocation(void* address, std::size_t* size) override { return inner_.getBaseAllocation(address, size); }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    return inner_.getDeviceStats(device);
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override { inner_.resetAccumulatedStats(device); }
  void resetPeakStats(c10::DeviceIndex device) override { inner_.resetPeakStats(device); }
  void beginAllocateToPool(c10::DeviceIndex device, c10::cuda::MempoolId_t pool,
                           std::function<bool(cudaStream_t)> filter) override {
    inner_.beginAllocateToPool(device, pool, std::move(filter));
  }
  void endAllocateToPool(c10::DeviceIndex device, c10::cuda::MempoolId_t pool) override {
    inner_.endAllocateToPool(device, pool);
  }
  void releasePool(c10::DeviceIndex device, c10::cuda::MempoolId_t pool) override { inner_.releasePool(device, pool); }
  std::string name() override { return "memo"; }

 private:
  struct Recorded {
    std::size_t bytes;
    std::uint64_t recorder;
  };
  // The caching allocator on the current stream; notes which recorder logs a block.
  struct Through final : libtorch::Heap {
    explicit Through(PlannedAllocator& owner) : Heap(c10::DeviceType::CUDA), allocator(owner) {}
    void* allocate(std::size_t bytes, std::uint64_t recorder) override {
      void* address = allocator.inner_.raw_alloc(bytes);
      plain = recorder == 0;
      if (plain) return address;
      const std::lock_guard lock(allocator.mutex_);
      allocator.recorded_[address] = {bytes, recorder};
      return address;
    }
    PlannedAllocator& allocator;
    bool plain = false;
  };

  static void give(void* address) {
    if (address == nullptr) return;
    if (libtorch::in_arena(address)) return libtorch::tell_scopes(address, 0, 0);
    of_process().give_back(address);
  }
  void give_back(void* address) {
    Recorded recorded{};
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = recorded_.find(address); found != recorded_.end()) {
        recorded = found->second;
        recorded_.erase(found);
      }
    }
    if (recorded.recorder != 0) libtorch::tell_scopes(address, recorded.bytes, recorded.recorder);
    inner_.raw_delete(address);
  }

  caching::CUDAAllocator& inner_;
  std::mutex mutex_;  // guards:
  std::unordered_map<void*, Recorded> recorded_;
};

}  // namespace

void install_allocator() {
  static const bool installed = [] {
    PlannedAllocator& allocator = PlannedAllocator::of_process();
    c10::SetAllocator(c10::DeviceType::CUDA, &allocator);
    caching::allocator.store(&allocator);
    return true;
  }();
  static_cast<void>(installed);
}

}  // namespace memo::gpu
