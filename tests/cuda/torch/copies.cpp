// Copies within the device and between it and the host, with the temporaries and the waits of ATen's
// (aten/src/ATen/native/cuda/Copy.cu, copy_kernel_cuda).
#include <ATen/TensorIterator.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <torch/library.h>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

// Bytes can be copied as they lie where both are without gaps in one order of dimensions.
bool needs_temporaries(const at::Tensor& to, const at::Tensor& from) {
  if (to.scalar_type() != from.scalar_type()) return true;
  return !at::TensorIteratorConfig()
              .add_output(to)
              .add_const_input(from)
              .resize_outputs(false)
              .check_all_same_dtype(false)
              .check_all_same_device(false)
              .build()
              .is_contiguous();
}

// In the order of both devices' current streams, as copy_device_to_device makes it by events.
void copy_there(const at::Tensor& to, const at::Tensor& from) {
  const auto copy = [t = on_host(to), f = on_host(from)] { t.copy_(f); };
  if (to.device() == from.device()) return enqueue(to, "aten::copy_", copy);
  const auto after = [](c10::DeviceIndex waits, c10::DeviceIndex given) {
    cudaEvent_t event = nullptr;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    {
      const Current there(c10::Device(c10::kCUDA, given));
      C10_CUDA_CHECK(cudaEventRecord(event, c10::cuda::getCurrentCUDAStream(given).stream()));
    }
    const Current there(c10::Device(c10::kCUDA, waits));
    C10_CUDA_CHECK(cudaStreamWaitEvent(c10::cuda::getCurrentCUDAStream(waits).stream(), event, 0));
    C10_CUDA_CHECK(cudaEventDestroy(event));
  };
  after(from.device().index(), to.device().index());
  enqueue(from, "aten::copy_", copy);
  after(to.device().index(), from.device().index());
}

// Another tensor of the same memory. The one that Python has would end with Python's lock, which the host may hold
// while it waits for the stream.
at::Tensor without_python(const at::Tensor& tensor) {
  const OnCpu plain;
  return tensor.alias();
}

// Pageable memory is read before the call returns.
void copy_to_device(const at::Tensor& to, const at::Tensor& from, bool non_blocking) {
  at::Tensor source = without_python(from);
  if (!non_blocking || !is_registered(from.const_data_ptr())) {
    const OnCpu plain;
    source = from.clone();
  }
  enqueue(to, "aten::copy_ to the device", [t = on_host(to), source] { t.copy_(source); });
  if (!non_blocking) wait_for_stream(to.device().index(), "aten::copy_ to the device");
}

// To pageable memory the host waits in any case.
void copy_to_host(const at::Tensor& to, const at::Tensor& from, bool non_blocking) {
  enqueue(from, "aten::copy_ to the host", [t = without_python(to), f = on_host(from)] { t.copy_(f); });
  if (!non_blocking || !is_registered(to.const_data_ptr()))
    wait_for_stream(from.device().index(), "aten::copy_ to the host");
}

// The order of temporaries is that of copy_kernel_cuda: the one at the destination, then the one at the source.
at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (self.is_same(source) || self.numel() == 0) return self;
  const at::Tensor from = source.expand(self.sizes());
  if (ours(self) && ours(source)) {
    copy_there(self, from);
    return self;
  }
  if (!needs_temporaries(self, from)) {
    if (ours(self))
      copy_to_device(self, from, non_blocking);
    else
      copy_to_host(self, from, non_blocking);
    return self;
  }
  // Non-blocking, the type changes on the device; else on the host.
  const bool at_source = ours(from) == non_blocking;
  const at::ScalarType type = at_source ? self.scalar_type() : from.scalar_type();
  const bool straight = self.is_contiguous() && self.scalar_type() == type;
  at::Tensor to = straight ? self : at::empty_like(self, type, at::MemoryFormat::Contiguous);
  copy_(to, from.to(type).contiguous(), non_blocking);
  if (!straight) self.copy_(to, non_blocking);
  return self;
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& to, bool non_blocking) {
  at::Tensor self = to;
  return copy_(self, source, non_blocking);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
}

}  // namespace memo::cuda::emulated
