// Where a session computes: the memory of its tensors, what copies between it and the tiers, and the stream that its
// calls run on.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "memo/exec/backend.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/arena.h"

namespace memo::libtorch {

// What the driver of a device says of it.
struct DeviceFacts {
  std::string capability, driver, runtime;  // versions
  int visible = 1;                          // devices of its kind that this process may use
  Bytes free, total;                        // memory
};

class Device : public exec::Backend {
 public:
  [[nodiscard]] virtual std::string name() const = 0;       // as a profile names it
  [[nodiscard]] virtual at::Device of_tensors() const = 0;  // where its tensors lie, for LibTorch
  virtual Result<Arena> map(Bytes bytes) = 0;               // maps an arena in its memory
  // The memory that a plan may take now; none: as much as it wants.
  virtual Result<std::optional<Bytes>> room() { return std::optional<Bytes>(); }
  // None: it is the host itself. LibTorch keeps no unused memory meanwhile.
  virtual Result<std::optional<DeviceFacts>> facts() { return std::optional<DeviceFacts>(); }
  // Runs work that touches tensors of the device, after everything that its compute stream was given before. Calls may
  // nest.
  virtual void run(const std::function<void()>& work) = 0;
  virtual void finish() = 0;  // waits until that work has ended
  // Use of the device's heap, by tensors that no plan placed.
  [[nodiscard]] virtual HeapUse unplanned() const = 0;
  virtual void reset_unplanned_peak() = 0;
};

// Runs `work` on the device and returns its result.
template <class F>
std::invoke_result_t<F> run_on(Device& device, const F& work) {
  std::optional<std::invoke_result_t<F>> result;
  device.run([&] { result.emplace(work()); });
  return *std::move(result);
}

// A tensor over memory of the device. The tensor does not keep the memory alive.
at::Tensor tensor_at(const std::byte* memory, at::IntArrayRef sizes, at::ScalarType dtype, at::Device device);
at::Tensor tensor_at(const std::byte* memory, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype,
                     at::Device device);
// A tensor over the memory of the contiguous tensor `x`. It does not keep the memory alive, which may be moved or given
// to others.
at::Tensor unowned(const at::Tensor& x);

// The device that consists of the host's processors and memory.
std::unique_ptr<Device> cpu_device();

}  // namespace memo::libtorch
