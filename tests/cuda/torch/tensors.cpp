// Tensors as such: how they are made, resized, set and viewed, and how the host reads one value.
#include <ATen/EmptyTensor.h>
#include <ATen/TensorUtils.h>
#include <ATen/core/op_registration/adaption.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <torch/library.h>

#include <cstring>

#include "tests/cuda/emulated/runtime/share.h"
#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {
namespace {

using Dtype = std::optional<at::ScalarType>;
using Place = std::optional<at::Device>;

const c10::DispatchKeySet keys(c10::DispatchKey::CUDA);

at::Tensor empty(c10::IntArrayRef size, Dtype dtype, std::optional<at::Layout>, Place device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  const OwnWork with_the_allocator;
  const Current there(device);
  return at::detail::empty_generic(size, c10::GetAllocator(c10::kCUDA), keys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, Dtype dtype, std::optional<at::Layout>,
                         Place device, std::optional<bool>) {
  const OwnWork with_the_allocator;
  const Current there(device);
  return at::detail::empty_strided_generic(size, stride, c10::GetAllocator(c10::kCUDA), keys,
                                           c10::dtype_or_default(dtype));
}

void grow(c10::StorageImpl* storage, std::size_t bytes) {
  const Current there(storage->device());
  c10::DataPtr memory = c10::GetAllocator(c10::kCUDA)->allocate(bytes);
  if (const std::size_t kept = std::min<std::size_t>(bytes, storage->nbytes()); kept > 0)
    enqueue(
        storage->device().index(), "resize",
        [to = host_address(memory.get()), from = host_address(storage->data()), kept] { std::memcpy(to, from, kept); });
  storage->set_data_ptr_noswap(std::move(memory));
  storage->set_nbytes(bytes);
}

const at::Tensor& resize_(const at::Tensor& self, c10::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  if (format && *format != at::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  fit_storage(self);
  return self;
}

at::Tensor& set_storage_as(at::Tensor& self, at::Storage storage, std::int64_t offset, c10::IntArrayRef size,
                           c10::IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  if (stride.data() == nullptr || (stride.empty() && !size.empty())) {
    impl->set_storage_offset(offset);
    impl->set_sizes_contiguous(size);
  } else {
    impl->set_sizes_and_strides(size, stride, offset);
  }
  fit_storage(self);
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage storage) {
  const auto count = static_cast<std::int64_t>(storage.nbytes() / self.element_size());
  return set_storage_as(self, std::move(storage), 0, {count}, {});
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage_as(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

at::Tensor& set_empty(at::Tensor& self) {
  const Current there(self.device());
  c10::Storage none(c10::Storage::use_byte_size_t(), 0, c10::GetAllocator(c10::kCUDA), true);
  return set_storage_as(self, std::move(none), 0, {0}, {});
}

at::Scalar item(const at::Tensor& self) {
  wait_for_stream(self.device().index(), "aten::item");
  const OnCpu plain;
  return on_host(self).item();
}

void record_stream(at::Tensor& self, c10::Stream stream) {
  c10::cuda::CUDACachingAllocator::recordStream(self.storage().data_ptr(), c10::cuda::CUDAStream(stream));
}

// aten/src/ATen/native/cuda/TensorCompare.cu: a kernel that fails where the value is zero.
void assert_async(const at::Tensor& self) {
  enqueue(self, "aten::_assert_async",
          [value = on_host(self)] { TORCH_CHECK(value.item().toBool(), "an assertion on the device failed"); });
}
void assert_async_with(const at::Tensor& self, c10::string_view) { assert_async(self); }

}  // namespace

void fit_storage(const at::Tensor& self) {
  const std::size_t bytes =
      at::detail::computeStorageNbytes(self.sizes(), self.strides(), self.element_size(), self.storage_offset());
  auto* storage = self.storage().unsafeGetStorageImpl();
  if (self.numel() > 0 && bytes > storage->nbytes()) grow(storage, bytes);
}

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_local_scalar_dense", &item);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage_as);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("set_", &set_empty);
  m.impl("view", &at::native::view);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("record_stream", &record_stream);
  m.impl("_assert_async", &assert_async);
  m.impl("_assert_async.msg", &assert_async_with);
}

}  // namespace memo::cuda::emulated
