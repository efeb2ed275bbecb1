// The arguments of an operator as the CPU's kernels take them, and what they return as tensors of the device.
#pragma once

#include <ATen/core/ivalue.h>

#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/cuda/torch/device.h"

namespace memo::cuda::emulated {

class Aliases {
 public:
  enum class Kind {
    same_bytes,  // the CPU's, over the device's bytes
    shapes,      // Meta's, without bytes
    zeros,       // the CPU's, of the same shapes, for operators whose shapes Meta does not know
  };
  explicit Aliases(Kind kind)
      : kind_(kind), backend_(kind == Kind::shapes ? c10::DispatchKey::Meta : c10::DispatchKey::CPU) {}
  [[nodiscard]] c10::DispatchKey backend() const { return backend_; }

  // Throws where arguments are on two devices.
  at::Tensor of(const at::Tensor& tensor);
  c10::IValue of(const c10::IValue& value);
  // What an operator of the CPU returned: the argument itself, a view of one, or a copy of a new tensor. `copied` is
  // called with each new tensor of the device and the one to copy from.
  using Copied = std::function<void(const at::Tensor& there, const at::Tensor& here)>;
  c10::IValue back(const c10::IValue& value, const Copied& copied) const;

  // Gives tensors the sizes that an operator gave their aliases, and memory for them;
  void take_sizes() const;
  // and, from aliases of the CPU, the values.
  void take_values() const;
  [[nodiscard]] bool is_alias(const at::Tensor& tensor) const;
  // The device of the arguments, if any is on one.
  [[nodiscard]] std::optional<c10::Device> device() const { return device_; }
  void set_device(c10::Device device) { device_ = device; }

 private:
  at::Tensor back(const at::Tensor& tensor, const Copied& copied) const;
  c10::intrusive_ptr<c10::StorageImpl> storage_for(const at::Tensor& tensor) const;
  at::Tensor make(const at::Tensor& tensor, c10::Storage storage) const;

  Kind kind_;
  c10::DispatchKey backend_;
  std::optional<c10::Device> device_;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;  // tensors of the device, and their aliases
  std::unordered_map<c10::StorageImpl*, c10::intrusive_ptr<c10::StorageImpl>> storages_;
};

}  // namespace memo::cuda::emulated
