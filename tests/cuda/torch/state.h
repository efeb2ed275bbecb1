// What the emulated GPU keeps for the whole process. LibTorch has one allocator, one guard, one set of hooks and one
// current device and stream a thread, so a device of LibTorch's cannot be a value; all of it is in state.cpp.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <map>

#include "tests/cuda/torch/caching_allocator.h"

namespace memo::cuda::emulated {

CachingAllocator& caching_allocator();
// Of the calling thread: its current stream on each device; absent: the default stream, whose number is 0.
std::map<c10::DeviceIndex, c10::StreamId>& current_streams();
// A stream of the pool of a device, in turn.
c10::StreamId pool_stream(c10::DeviceIndex device);

}  // namespace memo::cuda::emulated
