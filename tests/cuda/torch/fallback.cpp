// Every operator that no file here writes by hand: the CPU's kernel on the same bytes, when the stream gets there. What
// Meta kernels say of shapes lets the host go on before; where only values tell the shapes, it waits.
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "tests/cuda/emulated/runtime/share.h"
#include "tests/cuda/torch/aliases.h"
#include "tests/cuda/torch/planted.h"
#include "tests/cuda/torch/reductions.h"

namespace memo::cuda::emulated {

void enqueue(c10::DeviceIndex device, const std::string& what, std::function<void()> work) {
  const Current there(c10::Device(c10::kCUDA, device));
  plant_in_operator(device, what);
  launch(c10::cuda::getCurrentCUDAStream(device).stream(), [what, work = std::move(work)] {
    const OnCpu plain;
    try {
      work();
    } catch (const std::exception& error) {
      throw std::runtime_error(what + ": " + error.what());
    }
  });
  if (const std::string why = what_broke(); !why.empty()) TORCH_CHECK(false, "CUDA error: a kernel failed: ", why);
}

void wait_for_stream(c10::DeviceIndex device, const std::string& what) {
  const Current there(c10::Device(c10::kCUDA, device));
  const Doing doing(what);
  C10_CUDA_CHECK(cudaStreamSynchronize(c10::cuda::getCurrentCUDAStream(device).stream()));
}

namespace {

using c10::IValue;
using Arguments = std::vector<IValue>;

std::string name_of(const c10::OperatorHandle& op) {
  const c10::OperatorName& name = op.operator_name();
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

Arguments through(Aliases& aliases, const Arguments& arguments) {
  Arguments result;
  for (const IValue& value : arguments) result.push_back(aliases.of(value));
  return result;
}

void call(const c10::OperatorHandle& op, c10::DispatchKey backend, torch::jit::Stack& stack) {
  const at::AutoDispatchBelowADInplaceOrView below;
  op.redispatchBoxed(c10::DispatchKeySet(backend), &stack);
}

enum class Returns { views, arguments, fresh };

Returns returns_of(const c10::FunctionSchema& schema) {
  bool all_written = true;
  for (const c10::Argument& returned : schema.returns()) {
    const auto* alias = returned.alias_info();
    if (alias != nullptr && !alias->isWrite()) return Returns::views;
    all_written &= alias != nullptr;
  }
  return all_written && schema.is_mutable() ? Returns::arguments : Returns::fresh;
}

// Indices that are masks: their values tell the shapes.
bool has_mask_indices(const Arguments& arguments) {
  for (const IValue& value : arguments)
    if (value.isOptionalTensorList())
      for (const std::optional<at::Tensor>& index : value.toOptionalTensorVector())
        if (index && index->defined() && (index->scalar_type() == at::kBool || index->scalar_type() == at::kByte))
          return true;
  return false;
}

// What the operator returns for arguments of these shapes; the arguments that it writes to get the sizes of their
// aliases. Throws what is wrong with shapes. Nothing where only values tell the shapes.
std::optional<torch::jit::Stack> try_shapes(const c10::OperatorHandle& op, const Arguments& arguments, bool writes) {
  static const std::set<std::string> keep_shapes{"aten::_fused_adamw_", "aten::_fused_adam_", "aten::_fused_sgd_"};
  if (keep_shapes.contains(op.schema().name())) return torch::jit::Stack();
  if (op.hasTag(at::Tag::dynamic_output_shape) || op.hasTag(at::Tag::data_dependent_output) ||
      has_mask_indices(arguments))
    return std::nullopt;
  // (hasComputedKernelForDispatchKey is always true: Meta has a fallback, which throws.)
  const bool meta = op.hasKernelForDispatchKey(c10::DispatchKey::Meta) ||
                    op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd);
  const auto shapes_by = [&](Aliases::Kind kind) {
    Aliases aliases(kind);
    torch::jit::Stack stack = through(aliases, arguments);
    const OnCpu plain;
    call(op, aliases.backend(), stack);
    if (writes) aliases.take_sizes();
    return stack;
  };
  try {
    if (meta) return shapes_by(Aliases::Kind::shapes);
  } catch (const c10::NotImplementedError&) {  // one that it is composed of has no kernel
  }
  return shapes_by(Aliases::Kind::zeros);
}

bool returns_tensors(const c10::FunctionSchema& schema) {
  return std::ranges::all_of(schema.returns(), [](const c10::Argument& returned) {
    return returned.type()->kind() == c10::TypeKind::TensorType;
  });
}

// The host's scalars are read now, not when the stream gets there.
void keep_scalars(const Aliases& aliases, Arguments& inner) {
  for (IValue& value : inner)
    if (value.isTensor() && value.toTensor().defined() && !aliases.is_alias(value.toTensor()))
      value = value.toTensor().clone();
}

// Indices may be the host's, and so may scalars; nothing else may.
void refuse_mixed(const c10::OperatorHandle& op, const Arguments& arguments) {
  static const std::set<std::string> takes_host_indices{"aten::index", "aten::index_put_", "aten::_index_put_impl_"};
  if (takes_host_indices.contains(op.schema().name())) return;
  const auto check = [&](const at::Tensor& tensor) {
    TORCH_CHECK(!tensor.defined() || ours(tensor) || tensor.dim() == 0,
                "Expected all tensors to be on the same device, but found at least two devices, cuda and ",
                tensor.device(), ": ", name_of(op));
  };
  for (const IValue& value : arguments) {
    if (value.isTensor()) check(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector()) check(tensor);
  }
}

void push_written(const c10::FunctionSchema& schema, const Arguments& arguments, torch::jit::Stack& stack) {
  std::size_t left = schema.returns().size();
  for (std::size_t a = 0; a < arguments.size() && left > 0; ++a)
    if (const auto* alias = schema.arguments()[a].alias_info(); alias != nullptr && alias->isWrite()) {
      stack.push_back(arguments[a]);
      --left;
    }
}

// What is on a stack that had nothing on it.
std::vector<at::Tensor> tensors_of(const torch::jit::Stack& stack) {
  std::vector<at::Tensor> tensors;
  for (const IValue& value : stack)
    if (value.isTensor()) tensors.push_back(value.toTensor());
  return tensors;
}

}  // namespace

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const Share share;
  const c10::FunctionSchema& schema = op.schema();
  const Arguments arguments = torch::jit::pop(*stack, schema.arguments().size());
  const std::string name = name_of(op);
  refuse_mixed(op, arguments);
  const Returns returns = returns_of(schema);
  const bool writes = returns == Returns::arguments, makes = returns == Returns::fresh && returns_tensors(schema);
  std::optional<torch::jit::Stack> shapes;
  if (writes || (makes && !schema.is_mutable())) shapes = try_shapes(op, arguments, writes);
  Aliases aliases(Aliases::Kind::same_bytes);
  Arguments inner = through(aliases, arguments);
  if (!aliases.device()) aliases.set_device(c10::Device(c10::kCUDA, c10::cuda::current_device()));
  const c10::Device device = *aliases.device();
  for (std::size_t a = 0; a < inner.size(); ++a)  // none would be the CPU's default generator
    if (inner[a].isNone() && schema.arguments()[a].real_type()->str() == "Generator?")
      inner[a] = on_host(default_generator(device.index()));
  const Current there(device);
  const auto copy_later = [&](const at::Tensor&, const at::Tensor&) {};

  if (returns == Returns::views) {
    call(op, c10::DispatchKey::CPU, inner);
    for (const IValue& value : inner) stack->push_back(aliases.back(value, copy_later));
    return;
  }
  if (writes && shapes) {
    keep_scalars(aliases, inner);
    push_written(schema, arguments, *stack);
    const ReductionMemory memory = memory_of_reduction(op, arguments, tensors_of(*stack));
    enqueue(device.index(), name, [op, inner]() mutable { call(op, c10::DispatchKey::CPU, inner); });
    return;
  }
  if (shapes) {
    std::vector<at::Tensor> to;
    for (const IValue& value : *shapes) {
      const at::Tensor result = aliases.back(value, copy_later).toTensor();
      stack->push_back(result);
      to.push_back(on_host(result));
    }
    keep_scalars(aliases, inner);
    const ReductionMemory memory = memory_of_reduction(op, arguments, tensors_of(*stack));
    enqueue(device.index(), name, [op, inner, to]() mutable {
      call(op, c10::DispatchKey::CPU, inner);
      for (std::size_t i = 0; i < to.size(); ++i)
        if (to[i].defined()) to[i].copy_(inner[i].toTensor());
    });
    return;
  }
  wait_for_stream(device.index(), name);
  call(op, c10::DispatchKey::CPU, inner);
  const auto copy_now = [](const at::Tensor& to, const at::Tensor& from) {
    if (from.numel() > 0) std::memcpy(host_address(to.const_data_ptr()), from.const_data_ptr(), from.nbytes());
  };
  for (const IValue& value : inner) stack->push_back(aliases.back(value, copy_now));
  aliases.take_values();
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

// CUDA has kernels of these; without an entry they would be taken apart into others.
TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  for (const char* name : {"native_group_norm", "native_dropout", "native_dropout_backward", "_fused_adamw_",
                           "_fused_adamw_.tensor_lr", "_fused_adam_", "_fused_adam_.tensor_lr"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

}  // namespace memo::cuda::emulated
