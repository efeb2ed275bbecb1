// A GPU for LibTorch without one: a device of type CUDA on LibTorch for the CPU, over the emulated runtime of
// tests/cuda/emulated. Its memory faults when the host touches it outside of an operator; operators run the CPU's
// kernels on the same bytes, when their stream does. This header is what the files of the folder share.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/stack.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/cuda/CUDAStream.h>

#include <functional>
#include <string>

#include "tests/cuda/emulated/runtime/emulated.h"

namespace c10 {
class OperatorHandle;
}

namespace memo::cuda::emulated {

inline bool ours(const at::Tensor& tensor) { return tensor.defined() && tensor.is_cuda(); }

// Where the host may touch the bytes at an address of the device; throws where the address is not the device's.
void* host_address(const void* there);

// A tensor of the CPU over the same bytes. It owns nothing: as on a GPU, memory is given to others as soon as the host
// has let go of it, in the order of the stream.
at::Tensor on_host(const at::Tensor& tensor);

// Gives work to the current stream of a device. `what` names it where it fails.
void enqueue(c10::DeviceIndex device, const std::string& what, std::function<void()> work);
inline void enqueue(const at::Tensor& of, const std::string& what, std::function<void()> work) {
  enqueue(of.device().index(), what, std::move(work));
}
// Waits on the host for the current stream of a device, as `what` does.
void wait_for_stream(c10::DeviceIndex device, const std::string& what);

// While it lives, calls of the thread go to the CPU's kernels themselves, in one thread, so that sums have one order.
class OnCpu {
 public:
  OnCpu();
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;
  ~OnCpu();

 private:
  const at::AutoDispatchBelowADInplaceOrView below_;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast_;
  int threads_;
};

// Runs an operator by the CPU's kernel on the same bytes (fallback.cpp).
void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack);

// Memory for a tensor's sizes, with what was in it before.
void fit_storage(const at::Tensor& tensor);

// The generator of a device, and the CPU's generator that draws its numbers.
const at::Generator& default_generator(c10::DeviceIndex index);
at::Generator new_generator(c10::DeviceIndex index);
at::Generator on_host(const at::Generator& generator);

// Whether sums must have one order: determinism is asked for, and not only warned about.
bool in_one_order();
// Of pinned memory of the host.
c10::Allocator* pinned_allocator();

// For sums that CUDA adds by atomics, a number that is another one at each call, and in each process.
std::uint64_t another_order();

// While it lives, a device is current; no index: the current one stays.
class Current {
 public:
  explicit Current(std::optional<c10::Device> device);
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  ~Current();

 private:
  c10::DeviceIndex before_;
};

}  // namespace memo::cuda::emulated
