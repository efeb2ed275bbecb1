// Sizes of segments and when blocks are split, by LibTorch's own constants (c10/core/AllocatorConfig.h).
#include "tests/cuda/torch/caching_allocator.h"

#include <c10/core/AllocatorConfig.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>

#include <algorithm>

#include "memo/base/check.h"
#include "tests/cuda/torch/state.h"

namespace memo::cuda::emulated {
namespace {

using namespace c10::CachingAllocator;
constexpr std::size_t large_segment = 20 << 20;  // large_segment_size, where nothing else is configured

std::size_t rounded(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

CachingAllocator::CachingAllocator() : CUDAPluggableAllocator({}, {}) {}

c10::DataPtr CachingAllocator::allocate(std::size_t bytes) {
  void* address = bytes == 0 ? nullptr : raw_alloc(bytes);
  return {address, address, &give, c10::Device(c10::kCUDA, c10::cuda::current_device())};
}

void* CachingAllocator::raw_alloc(std::size_t bytes) {
  return raw_alloc_with_stream(bytes, c10::cuda::getCurrentCUDAStream().stream());
}

void* CachingAllocator::raw_alloc_with_stream(std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return nullptr;
  const std::lock_guard lock(mutex_);
  gather_events();
  const int device = c10::cuda::current_device();
  const std::size_t size = rounded(bytes, kMinBlockSize);
  const bool small = size <= kSmallSize;
  auto block = find(size, small, device, stream);
  if (block == blocks_.end()) block = grow(size, small, device, stream);
  TORCH_CHECK_WITH(OutOfMemoryError, block != blocks_.end(), "CUDA out of memory. Tried to allocate ", bytes,
                   " bytes on an emulated GPU");
  split(block, size);
  block->second.used = true;
  block->second.requested = bytes;
  Use& use = use_[device];
  use.requested += static_cast<std::int64_t>(bytes);
  use.most_requested = std::max(use.most_requested, use.requested);
  use.live += static_cast<std::int64_t>(block->second.bytes);
  use.peak = std::max(use.peak, use.live);
  ++use.count;
  return block->first;
}

// The smallest block that is large enough.
CachingAllocator::Blocks::iterator CachingAllocator::find(std::size_t bytes, bool small, int device,
                                                          cudaStream_t stream) {
  auto best = blocks_.end();
  for (auto it = blocks_.begin(); it != blocks_.end(); ++it) {
    const Block& b = it->second;
    if (b.used || b.pending > 0 || b.bytes < bytes || b.small != small || b.device != device || b.stream != stream)
      continue;
    if (best == blocks_.end() || b.bytes < best->second.bytes) best = it;
  }
  return best;
}

CachingAllocator::Blocks::iterator CachingAllocator::grow(std::size_t bytes, bool small, int device,
                                                          cudaStream_t stream) {
  const std::size_t segment = small                    ? kSmallBuffer
                              : bytes < kMinLargeAlloc ? large_segment
                                                       : rounded(bytes, kRoundLarge);
  void* made = nullptr;
  if (cudaMalloc(&made, segment) != cudaSuccess) {
    (void)cudaGetLastError();
    release_free_segments(device);
    if (cudaMalloc(&made, segment) != cudaSuccess) {
      (void)cudaGetLastError();
      return blocks_.end();
    }
  }
  Use& use = use_[device];
  use.segments += static_cast<std::int64_t>(segment);
  use.most_segments = std::max(use.most_segments, use.segments);
  auto* begin = static_cast<std::byte*>(made);
  return blocks_.emplace(begin, Block{segment, 0, begin, stream, device, small, false, {}, 0}).first;
}

void CachingAllocator::split(Blocks::iterator block, std::size_t bytes) {
  const std::size_t left = block->second.bytes - bytes;
  if (left < (block->second.small ? kMinBlockSize : kSmallSize + 1)) return;
  Block rest = block->second;
  rest.bytes = left;
  block->second.bytes = bytes;
  blocks_.emplace(block->first + bytes, std::move(rest));
}

void CachingAllocator::give(void* address) { caching_allocator().raw_delete(address); }

void CachingAllocator::raw_delete(void* address) {
  if (address == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(static_cast<std::byte*>(address));
  MEMO_CHECK(block != blocks_.end() && block->second.used, "what is freed was allocated");
  use_[block->second.device].live -= static_cast<std::int64_t>(block->second.bytes);
  use_[block->second.device].requested -= static_cast<std::int64_t>(block->second.requested);
  block->second.used = false;
  for (const cudaStream_t other : std::exchange(block->second.others, {})) {
    cudaEvent_t event = nullptr;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    C10_CUDA_CHECK(cudaEventRecord(event, other));
    ++block->second.pending;
    events_.emplace_back(event, block->first);
  }
  if (block->second.pending == 0) put_back(block);
}

// Merges a free block with free neighbours.
void CachingAllocator::put_back(Blocks::iterator block) {
  const auto joins = [](const Blocks::iterator& a, const Blocks::iterator& b) {
    const auto free = [](const Block& one) { return !one.used && one.pending == 0; };
    return a->second.segment == b->second.segment && free(a->second) && free(b->second);
  };
  if (const auto next = std::next(block); next != blocks_.end() && joins(block, next)) {
    block->second.bytes += next->second.bytes;
    blocks_.erase(next);
  }
  if (block == blocks_.begin()) return;
  if (const auto before = std::prev(block); joins(before, block)) {
    before->second.bytes += block->second.bytes;
    blocks_.erase(block);
  }
}

void CachingAllocator::gather_events() {
  std::erase_if(events_, [&](const auto& waiting) {
    if (cudaEventQuery(waiting.first) != cudaSuccess) {
      (void)cudaGetLastError();
      return false;
    }
    cudaEventDestroy(waiting.first);
    const auto block = blocks_.find(waiting.second);
    if (--block->second.pending == 0) put_back(block);
    return true;
  });
}

void CachingAllocator::recordStream(const c10::DataPtr& data, c10::cuda::CUDAStream stream) {
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(static_cast<std::byte*>(data.get()));
  if (block != blocks_.end() && block->second.stream != stream.stream()) block->second.others.insert(stream.stream());
}

void CachingAllocator::release_free_segments(int device) {
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    const auto [begin, block] = *it;
    const auto next = std::next(it);
    const bool whole = begin == block.segment && (next == blocks_.end() || next->second.segment != block.segment);
    if (whole && !block.used && block.pending == 0 && block.device == device) {
      use_[device].segments -= static_cast<std::int64_t>(block.bytes);
      cudaFree(begin);
      it = blocks_.erase(it);
    } else {
      it = next;
    }
  }
}

void CachingAllocator::emptyCache(c10::cuda::MempoolId_t) {
  const std::lock_guard lock(mutex_);
  gather_events();
  for (c10::DeviceIndex device = 0; device < c10::cuda::device_count(); ++device) release_free_segments(device);
}

void* CachingAllocator::getBaseAllocation(void* address, std::size_t* size) {
  const std::lock_guard lock(mutex_);
  const auto block = blocks_.find(static_cast<std::byte*>(address));
  MEMO_CHECK(block != blocks_.end(), "the address is of a block");
  if (size != nullptr) *size = block->second.bytes;
  return block->second.segment;
}

c10::CachingDeviceAllocator::DeviceStats CachingAllocator::getDeviceStats(c10::DeviceIndex device) {
  const std::lock_guard lock(mutex_);
  const Use& use = use_[device];
  c10::CachingDeviceAllocator::DeviceStats stats;
  stats.allocated_bytes[0].current = use.live;
  stats.allocated_bytes[0].peak = use.peak;
  stats.requested_bytes[0].current = use.requested;
  stats.requested_bytes[0].peak = use.most_requested;
  stats.allocation[0].allocated = use.count;
  stats.reserved_bytes[0].current = use.segments;
  stats.reserved_bytes[0].peak = use.most_segments;
  return stats;
}

void CachingAllocator::resetPeakStats(c10::DeviceIndex device) {
  const std::lock_guard lock(mutex_);
  use_[device].peak = use_[device].live;
  use_[device].most_requested = use_[device].requested;
  use_[device].most_segments = use_[device].segments;
}

}  // namespace memo::cuda::emulated
