// Takes over every CUDA allocation of LibTorch, in front of LibTorch's caching allocator. Scopes of
// memo/libtorch/memory/allocator.h record allocations or give them planned addresses; all others go to the caching
// allocator. Global, because LibTorch's allocator is.
#pragma once

namespace memo::gpu {

// Works also when LibTorch has used CUDA before; later calls do nothing. Statistics are the caching allocator's, so
// they do not count planned tensors.
void install_allocator();

}  // namespace memo::gpu
