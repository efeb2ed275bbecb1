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

class Device : public exec::Backend {
 public:
  [[nodiscard]] virtual std::string name() const = 0;       // in a profile
  [[nodiscard]] virtual at::Device of_tensors() const = 0;  // of tensors in its memory
  virtual Result<Arena> map(Bytes bytes) = 0;               // of its memory
  // Runs work that touches tensors of the device, behind all that its compute stream was given. Calls may nest.
  virtual void run(const std::function<void()>& work) = 0;
  virtual void finish() = 0;  // waits until what was run has ended
  // Of tensors that no plan placed.
  [[nodiscard]] virtual HeapUse unplanned() const = 0;
  virtual void reset_unplanned_peak() = 0;
};

// What `work` returns, run on the device.
template <class F>
std::invoke_result_t<F> run_on(Device& device, const F& work) {
  std::optional<std::invoke_result_t<F>> result;
  device.run([&] { result.emplace(work()); });
  return *std::move(result);
}

// A tensor over memory of the device, which the tensor does not keep.
at::Tensor tensor_at(const std::byte* memory, at::IntArrayRef sizes, at::ScalarType dtype, at::Device device);
at::Tensor tensor_at(const std::byte* memory, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype,
                     at::Device device);
// The contiguous tensor's memory, which the new one does not keep: it will be moved, or given to someone else.
at::Tensor unowned(const at::Tensor& x);

// The host's processors and memory.
std::unique_ptr<Device> cpu_device();

}  // namespace memo::libtorch
