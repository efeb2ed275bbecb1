// Aliases keep what kernels look at: storages that are shared stay shared, and so do conjugation and wrapped numbers.
#include "tests/cuda/torch/aliases.h"

#include <ATen/ops/empty_strided.h>
#include <c10/core/CPUAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <algorithm>
#include <cstring>

namespace memo::cuda::emulated {

using c10::IValue;

void* host_address(const void* there) {
  if (there == nullptr) return nullptr;
  void* here = bytes_of(there);
  TORCH_CHECK(here != nullptr, "an address of the emulated GPU is not in its memory");
  return here;
}

at::Tensor on_host(const at::Tensor& tensor) { return Aliases(Aliases::Kind::same_bytes).of(tensor); }

c10::intrusive_ptr<c10::StorageImpl> Aliases::storage_for(const at::Tensor& tensor) const {
  const c10::Storage& from = tensor.storage();
  const c10::Device place(backend_ == c10::DispatchKey::Meta ? c10::kMeta : c10::kCPU);
  c10::DataPtr memory(nullptr, place);
  if (kind_ == Kind::same_bytes) memory = c10::DataPtr(host_address(from.data()), place);
  if (kind_ == Kind::zeros) {
    memory = c10::GetCPUAllocator()->allocate(from.nbytes());
    if (from.nbytes() > 0) std::memset(memory.get(), 0, from.nbytes());
  }
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), from.nbytes(), std::move(memory),
                                               c10::GetAllocator(place.type()), /*resizable=*/true);
}

at::Tensor Aliases::make(const at::Tensor& tensor, c10::Storage storage) const {
  at::Tensor alias =
      at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(backend_), tensor.dtype());
  alias.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) alias.unsafeGetTensorImpl()->set_wrapped_number(true);
  if (tensor.is_conj()) alias._set_conj(true);
  if (tensor.is_neg()) alias._set_neg(true);
  return alias;
}

at::Tensor Aliases::of(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  if (!ours(tensor))  // scalars stay the host's: Python's kernels for Meta take wrapped numbers of the CPU only
    return kind_ == Kind::shapes && tensor.dim() > 0 ? make(tensor, c10::Storage(storage_for(tensor))) : tensor;
  if (!device_) device_ = tensor.device();
  TORCH_CHECK(*device_ == tensor.device(), "Expected all tensors to be on the same device, but found ", *device_,
              " and ", tensor.device());
  auto& storage = storages_[tensor.storage().unsafeGetStorageImpl()];
  if (!storage) storage = storage_for(tensor);
  at::Tensor alias = make(tensor, c10::Storage(storage));
  pairs_.emplace_back(tensor, alias);
  return alias;
}

IValue Aliases::of(const IValue& value) {
  if (value.isTensor()) return of(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> result;
    for (const at::Tensor& tensor : value.toTensorVector()) result.push_back(of(tensor));
    return result;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> result;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
      result.push_back(tensor ? std::optional(of(*tensor)) : std::nullopt);
    return result;
  }
  if (value.isDevice() && value.toDevice().is_cuda()) {
    const c10::Device given = value.toDevice();
    if (!device_) device_ = c10::Device(c10::kCUDA, given.has_index() ? given.index() : c10::cuda::current_device());
    return c10::Device(backend_ == c10::DispatchKey::Meta ? at::kMeta : at::kCPU);
  }
  if (value.isGenerator() && value.toGenerator().defined() && value.toGenerator().device().is_cuda())
    return on_host(value.toGenerator());
  return value;
}

at::Tensor Aliases::back(const at::Tensor& tensor, const Copied& copied) const {
  if (!tensor.defined()) return tensor;
  for (const auto& [there, alias] : pairs_)
    if (alias.is_same(tensor)) return there;
  const auto* storage = tensor.storage().unsafeGetStorageImpl();
  for (const auto& [there, alias] : pairs_) {
    if (alias.storage().unsafeGetStorageImpl() != storage) continue;
    at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(there.storage()),
                                                               there.key_set(), tensor.dtype());
    view.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
    if (tensor.is_conj()) view._set_conj(true);
    if (tensor.is_neg()) view._set_neg(true);
    return view;
  }
  if (!tensor.is_cpu() && !tensor.is_meta()) return tensor;
  const at::Tensor from = tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
  at::Tensor result = at::empty_strided(from.sizes(), from.strides(), from.options().device(*device_));
  copied(result, from);
  return result;
}

IValue Aliases::back(const IValue& value, const Copied& copied) const {
  if (value.isTensor()) return back(value.toTensor(), copied);
  if (value.isTensorList()) {
    c10::List<at::Tensor> result;
    for (const at::Tensor& tensor : value.toTensorVector()) result.push_back(back(tensor, copied));
    return result;
  }
  return value;
}

void Aliases::take_sizes() const {
  for (const auto& [there, alias] : pairs_) {
    if (there.sizes() == alias.sizes() && there.strides() == alias.strides()) continue;
    there.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
    fit_storage(there);
  }
}

void Aliases::take_values() const {
  for (const auto& [there, alias] : pairs_) {
    auto* storage = there.storage().unsafeGetStorageImpl();
    auto* here = alias.storage().unsafeGetStorageImpl();
    if (here->nbytes() > storage->nbytes()) {
      c10::DataPtr memory = c10::GetAllocator(c10::kCUDA)->allocate(here->nbytes());
      std::memcpy(host_address(memory.get()), here->data(), here->nbytes());
      storage->set_data_ptr_noswap(std::move(memory));
      storage->set_nbytes(here->nbytes());
    }
    there.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
  }
}

bool Aliases::is_alias(const at::Tensor& tensor) const {
  return std::ranges::any_of(pairs_, [&](const auto& pair) { return pair.second.is_same(tensor); });
}

}  // namespace memo::cuda::emulated
