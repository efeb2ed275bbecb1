// The engine that provides the hooks. LibTorch asks its default engine for the hooks of each tensor it saves
// (torch/csrc/autograd/saved_variable.cpp, get_default_hooks): ours answers that, and passes everything else on to the
// engine that was there before, which under Python is Python's own.
#include "memo/libtorch/memory/saved_tensors.h"

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/saved_variable_hooks.h>

#include <memory>
#include <utility>

namespace memo::libtorch {
namespace {

namespace autograd = torch::autograd;

thread_local SavedTensorKeeper* active = nullptr;

class KeeperHooks final : public autograd::SavedVariableHooks {
 public:
  explicit KeeperHooks(SavedTensorKeeper& keeper) : keeper_(keeper) {}

  void call_pack_hook(const at::Tensor& tensor) override {
    at::Tensor alias = tensor.detach();
    handle_ = keeper_.pack(alias);
    if (handle_) return;
    version_ = alias._version();
    held_ = std::move(alias);
  }

  at::Tensor call_unpack_hook() override {
    if (handle_) return keeper_.unpack(*handle_);
    // Autograd itself checks versions only of tensors without hooks.
    TORCH_CHECK(held_._version() == version_, "a tensor of shape ", held_.sizes(),
                " that backward needs was modified in place: it was saved at version ", version_, " and is at version ",
                held_._version());
    return held_;
  }

 private:
  SavedTensorKeeper& keeper_;
  std::optional<std::any> handle_;
  at::Tensor held_;
  std::uint32_t version_ = 0;
};

class HookingEngine final : public autograd::Engine {
 public:
  explicit HookingEngine(autograd::Engine& inner) : inner_(inner) {}

  std::unique_ptr<autograd::SavedVariableHooks> get_default_saved_variable_hooks() override {
    if (active != nullptr) return std::make_unique<KeeperHooks>(*active);
    return inner_.get_default_saved_variable_hooks();
  }

  autograd::variable_list execute(const autograd::edge_list& roots, const autograd::variable_list& inputs,
                                  bool keep_graph, bool create_graph, bool accumulate_grad,
                                  const autograd::edge_list& outputs) override {
    return inner_.execute(roots, inputs, keep_graph, create_graph, accumulate_grad, outputs);
  }
  c10::intrusive_ptr<at::ivalue::Future> execute_with_graph_task(const std::shared_ptr<autograd::GraphTask>& graph_task,
                                                                 decltype(autograd::Edge::function) graph_root,
                                                                 autograd::InputBuffer&& input_buffer) override {
    return inner_.execute_with_graph_task(graph_task, std::move(graph_root), std::move(input_buffer));
  }
  std::unique_ptr<autograd::AnomalyMetadata> make_anomaly_metadata() override { return inner_.make_anomaly_metadata(); }

 private:
  autograd::Engine& inner_;
};

// Never destroyed: autograd may be used until the process ends.
autograd::Engine& hooking_engine() {
  static auto* const engine = new HookingEngine(autograd::Engine::get_default_engine());
  return *engine;
}

}  // namespace

void install_saved_tensor_hooks() {
  hooking_engine();  // made first, while the default engine is still the one to wrap
  autograd::set_default_engine_stub(&hooking_engine);
}

SavedTensorScope::SavedTensorScope(SavedTensorKeeper& keeper) : outer_(std::exchange(active, &keeper)) {}
SavedTensorScope::~SavedTensorScope() { active = outer_; }

}  // namespace memo::libtorch
