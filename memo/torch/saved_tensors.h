// Saved-tensor hooks in C++: every tensor that autograd saves for backward passes through the active keeper. The
// second place with global state (set_default_engine_stub); the active keeper is per thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <any>
#include <optional>

namespace memo::edge {

// What the executor (or the profiler) does with saved tensors.
class SavedTensorKeeper {
 public:
  virtual ~SavedTensorKeeper() = default;
  // A handle from which `unpack` can make the tensor again, or nothing: autograd then holds the tensor itself.
  virtual std::optional<std::any> pack(const at::Tensor& tensor) = 0;
  virtual at::Tensor unpack(const std::any& handle) = 0;
};

// Installs the engine that asks for hooks; later calls do nothing. Call before the first use of autograd.
void install_saved_tensor_hooks();

// While alive, tensors that this thread's graphs save go to `keeper`. Unpacking asks the keeper that packed, which must
// outlive its graphs. Scopes nest; the innermost counts.
class SavedTensorScope {
 public:
  explicit SavedTensorScope(SavedTensorKeeper& keeper);
  ~SavedTensorScope();
  SavedTensorScope(const SavedTensorScope&) = delete;
  SavedTensorScope& operator=(const SavedTensorScope&) = delete;

 private:
  SavedTensorKeeper* outer_;
};

}  // namespace memo::edge
