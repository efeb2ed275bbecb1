// Pinned memory of LibTorch's own (Tensor.pin_memory): of the host, and registered. Copies hold the tensors that they
// read and write, so it is freed behind them, as CachingHostAllocator.cpp of ATen's does by events.
#include <c10/core/Allocator.h>
#include <c10/cuda/CUDAException.h>

#include <cstdlib>

#include "memo/base/check.h"
#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

constexpr std::size_t page = 4096;

class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::Device(c10::kCPU)};
    const std::size_t pages = (bytes + page - 1) / page * page;
    void* memory = std::aligned_alloc(page, pages);
    MEMO_CHECK(memory != nullptr, "the host has memory");
    C10_CUDA_CHECK(cudaHostRegister(memory, pages, cudaHostRegisterDefault));
    return {memory, memory, &give, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static void give(void* memory) {
    (void)cudaHostUnregister(memory);  // it may fail where a kernel has failed
    std::free(memory);
  }
};

}  // namespace

c10::Allocator* pinned_allocator() {
  static auto* const one = new PinnedAllocator;
  return one;
}

}  // namespace memo::cuda::emulated
