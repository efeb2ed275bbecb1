// Saved-tensor hooks in C++: every tensor that autograd saves for backward passes through the active keeper. The
// second place with global state (set_default_engine_stub); the active keeper is per thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <any>
#include <optional>

namespace memo::libtorch {

// Takes tensors that autograd saves, and gives them back. The runner and the recorder each have one.
class SavedTensorKeeper {
 public:
  virtual ~SavedTensorKeeper() = default;
  // `tensor` is a detached alias of the saved tensor, because a reference to an output of the node that saves it would
  // be a cycle; recognise parameters and aliases by their storage. Returns a handle from which `unpack` can make the
  // tensor again, or nothing: autograd then holds the tensor itself. The handle is destroyed when autograd lets go of
  // the tensor.
  virtual std::optional<std::any> pack(const at::Tensor& tensor) = 0;
  // May be called several times for one handle, when the graph is kept. What it throws, backward throws.
  virtual at::Tensor unpack(const std::any& handle) = 0;
};

// Installs the engine that provides the hooks; later calls do nothing.
void install_saved_tensor_hooks();

// While alive, tensors that this thread's graphs save go to `keeper`, which must outlive these graphs: it also unpacks
// them. Scopes nest; the innermost counts.
class SavedTensorScope {
 public:
  explicit SavedTensorScope(SavedTensorKeeper& keeper);
  ~SavedTensorScope();
  SavedTensorScope(const SavedTensorScope&) = delete;
  SavedTensorScope& operator=(const SavedTensorScope&) = delete;

 private:
  SavedTensorKeeper* outer_;
};

}  // namespace memo::libtorch
