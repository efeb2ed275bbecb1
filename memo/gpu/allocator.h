// Takes over every CUDA allocation of LibTorch, in front of LibTorch's caching allocator: scopes of
// memo/libtorch/memory/allocator.h record, or give planned addresses; everything else goes through. Global, because
// LibTorch's allocator is.
#pragma once

namespace memo::gpu {

// Also when LibTorch has used CUDA before; later calls do nothing. Statistics stay those of the caching allocator, so
// planned tensors are not among them.
void install_allocator();

}  // namespace memo::gpu
