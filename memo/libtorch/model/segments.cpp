// Leaves, roots and gradients of a call's graph.
#include "memo/libtorch/model/segments.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

#include <utility>

#include "memo/libtorch/memory/allocator.h"

namespace memo::libtorch {
namespace {

// Whether the graph is a single node. Such a node is called on this thread, whose allocations are planned: on a GPU,
// autograd's engine would take it to another thread.
bool is_one_node(const Graph& graph) {
  const auto& node = graph.roots.front().function;
  for (std::size_t i = 0; i < graph.roots.size(); ++i)
    if (graph.roots[i].function != node || graph.roots[i].input_nr != i) return false;
  if (node->num_inputs() != graph.roots.size() || node->num_outputs() != graph.leaves.size()) return false;
  for (std::size_t i = 0; i < graph.leaves.size(); ++i)
    if (!(node->next_edge(i) == torch::autograd::impl::gradient_edge(graph.leaves[i]))) return false;
  return true;
}

}  // namespace

at::ScalarType ComputeDtype::of(const model::TensorClass& cls) const {
  switch (cls.element()) {
    case model::Element::compute:
      return rows;
    case model::Element::attention:
      return attention;
    case model::Element::float32:
    case model::Element::bytes:
      break;
  }
  return at::kFloat;
}

std::size_t Segments::least_planned() const { return external() ? libtorch::least_planned : 0; }

at::Tensor leaf(const at::Tensor& tensor, Graph& graph) {
  graph.leaves.push_back(tensor.detach().set_requires_grad(true));
  return graph.leaves.back();
}

void keep_roots(const std::vector<at::Tensor>& outputs, Graph& graph) {
  for (const at::Tensor& output : outputs) graph.roots.push_back(torch::autograd::impl::gradient_edge(output));
}

std::vector<at::Tensor> detached(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(tensor.detach());
  return result;
}

std::vector<at::Tensor> gradients(Graph& graph, const std::vector<at::Tensor>& of_roots,
                                  const std::vector<at::Tensor>& others) {
  if (others.empty() && is_one_node(graph)) {
    std::vector<at::Tensor> result = (*graph.roots.front().function)(torch::autograd::variable_list(of_roots));
    graph = {};
    return result;
  }
  torch::autograd::edge_list wanted;
  for (const auto* tensors : {&std::as_const(graph.leaves), &others})
    for (const at::Tensor& tensor : *tensors) wanted.push_back(torch::autograd::impl::gradient_edge(tensor));
  auto result =
      torch::autograd::Engine::get_default_engine().execute(graph.roots, of_roots, false, false, false, wanted);
  graph = {};
  return {result.begin(), result.end()};
}

}  // namespace memo::libtorch
