// The members of LibTorch's pluggable allocator, base of Memo's and of the emulated caching allocator, which
// libtorch_cuda exports. What neither calls is refused.
#include <torch/csrc/cuda/CUDAPluggableAllocator.h>

namespace torch::cuda::CUDAPluggableAllocator {

#define NOT_EMULATED TORCH_CHECK(false, "the emulated GPU has no allocator's ", __func__)
using Pluggable = struct CUDAPluggableAllocator;
namespace caching = c10::cuda::CUDACachingAllocator;

Pluggable::CUDAPluggableAllocator(std::function<void*(size_t, int, cudaStream_t)> allocate,
                                  std::function<void(void*, size_t, int, cudaStream_t)> free)
    : alloc_fn_(std::move(allocate)), free_fn_(std::move(free)) {}
c10::DataPtr Pluggable::allocate(size_t) { NOT_EMULATED; }
c10::DeleterFnPtr Pluggable::raw_deleter() const { NOT_EMULATED; }
void* Pluggable::raw_alloc(size_t) { NOT_EMULATED; }
void* Pluggable::raw_alloc_with_stream(size_t, cudaStream_t) { NOT_EMULATED; }
void Pluggable::raw_delete(void*) { NOT_EMULATED; }
void Pluggable::init(int) {}
bool Pluggable::initialized() { return true; }
double Pluggable::getMemoryFraction(c10::DeviceIndex) { return 1; }
void Pluggable::setMemoryFraction(double, c10::DeviceIndex) { NOT_EMULATED; }
std::vector<caching::StreamSegmentSize> Pluggable::getExpandableSegmentSizes(c10::DeviceIndex) { NOT_EMULATED; }
void Pluggable::emptyCache(c10::cuda::MempoolId_t) { NOT_EMULATED; }
void Pluggable::cacheInfo(c10::DeviceIndex, size_t*) { NOT_EMULATED; }
void* Pluggable::getBaseAllocation(void*, size_t*) { NOT_EMULATED; }
void Pluggable::recordStream(const c10::DataPtr&, c10::cuda::CUDAStream) { NOT_EMULATED; }
c10::CachingDeviceAllocator::DeviceStats Pluggable::getDeviceStats(c10::DeviceIndex) { NOT_EMULATED; }
void Pluggable::resetAccumulatedStats(c10::DeviceIndex) { NOT_EMULATED; }
void Pluggable::resetPeakStats(c10::DeviceIndex) { NOT_EMULATED; }
caching::SnapshotInfo Pluggable::snapshot(c10::cuda::MempoolId_t, bool) { NOT_EMULATED; }
void Pluggable::beginAllocateToPool(c10::DeviceIndex, c10::cuda::MempoolId_t, std::function<bool(cudaStream_t)>) {
  NOT_EMULATED;
}
void Pluggable::endAllocateToPool(c10::DeviceIndex, c10::cuda::MempoolId_t) { NOT_EMULATED; }
void Pluggable::releasePool(c10::DeviceIndex, c10::cuda::MempoolId_t) { NOT_EMULATED; }
std::shared_ptr<void> Pluggable::getIpcDevPtr(std::string) { NOT_EMULATED; }
caching::ShareableHandle Pluggable::shareIpcHandle(void*) { NOT_EMULATED; }
void Pluggable::recordHistory(bool, caching::CreateContextFn, size_t, caching::RecordContext, bool,
                              const std::vector<std::string>&) {
  NOT_EMULATED;
}
void Pluggable::attachOutOfMemoryObserver(caching::OutOfMemoryObserver) { NOT_EMULATED; }
void Pluggable::attachOomRejectionObserver(caching::OomRejectionObserver) { NOT_EMULATED; }
void Pluggable::attachAllocatorTraceTracker(caching::AllocatorTraceTracker) { NOT_EMULATED; }
std::shared_ptr<caching::AllocatorState> Pluggable::getCheckpointState(c10::DeviceIndex, at::cuda::MempoolId_t) {
  NOT_EMULATED;
}
caching::CheckpointDelta Pluggable::setCheckpointPoolState(c10::DeviceIndex, std::shared_ptr<caching::AllocatorState>) {
  NOT_EMULATED;
}
void Pluggable::enablePeerAccess(c10::DeviceIndex, c10::DeviceIndex) { NOT_EMULATED; }
cudaError_t Pluggable::memcpyAsync(void*, int, const void*, int, size_t, cudaStream_t, bool) { NOT_EMULATED; }
std::string Pluggable::name() { return "emulated"; }
void Pluggable::copy_data(void*, const void*, std::size_t) const { NOT_EMULATED; }

}  // namespace torch::cuda::CUDAPluggableAllocator
