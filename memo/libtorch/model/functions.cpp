// Nodes whose backward is a function of saved tensors, and the pieces of a layer made of them.
#include "memo/libtorch/model/functions.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "memo/base/check.h"

namespace memo::libtorch {
namespace {

using Tensors = std::vector<at::Tensor>;
// Gradients of the inputs, from the saved tensors and the gradients of the outputs. May overwrite `gradients`.
using Backward = std::function<Tensors(const Tensors& saved, Tensors& gradients)>;

class FusedNode final : public torch::autograd::Node {
 public:
  FusedNode(const Tensors& saved, Backward backward) : backward_(std::move(backward)) {
    // Detached, since backward needs only values.
    for (const at::Tensor& tensor : saved) saved_.emplace_back(tensor.detach(), false);
  }

  void release_variables() override {
    for (torch::autograd::SavedVariable& saved : saved_) saved.reset_data();
  }

 private:
  torch::autograd::variable_list apply(torch::autograd::variable_list&& given) override {
    const at::AutoDispatchBelowADInplaceOrView plain;
    Tensors gradients = std::move(given), saved;
    for (at::Tensor& gradient : gradients) {
      MEMO_CHECK(gradient.defined(), "every output of a segment has a gradient");
      gradient = gradient.contiguous();
    }
    for (const torch::autograd::SavedVariable& variable : saved_) saved.push_back(variable.unpack());
    return backward_(saved, gradients);
  }

  std::vector<torch::autograd::SavedVariable> saved_;
  Backward backward_;
};

// LibTorch counts references to nodes intrusively; before 2.12 it used shared pointers.
template <class N, class... Arguments>
auto make_node(Arguments&&... arguments) {
  if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, N>) {
    return c10::make_intrusive<N>(std::forward<Arguments>(arguments)...);
  } else {
    return std::make_shared<N>(std::forward<Arguments>(arguments)...);
  }
}

// Makes a node for outputs = f(inputs), where a gradient is wanted.
void record(const Tensors& inputs, const Tensors& saved, Tensors& outputs, Backward backward) {
  if (!at::GradMode::is_enabled() || !torch::autograd::any_variable_requires_grad(inputs)) return;
  const auto node = make_node<FusedNode>(saved, std::move(backward));
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  torch::autograd::set_history(outputs, node);
}

at::Tensor like(const at::Tensor& tensor) { return at::empty(tensor.sizes(), tensor.options()); }

// Rows [row, row + rows) of a linear function's outputs.
Linear part(const Linear& whole, std::int64_t row, std::int64_t rows) {
  Linear result = whole;
  result.weight.value = whole.weight.value.narrow(0, row, rows);
  if (whole.bias.value.defined()) result.bias.value = whole.bias.value.narrow(0, row, rows);
  return result;
}

at::Tensor apply(const Linear& f, const at::Tensor& x) {
  at::Tensor y = at::empty({x.size(0), f.weight.value.size(0)}, x.options());
  if (f.bias.value.defined()) {
    fill_rows(f.bias.value, y);
    add_linear(x, f.weight.value, y);
  } else {
    linear(x, f.weight.value, y);
  }
  return y;
}

at::Tensor residual_plus(const Linear& f, const at::Tensor& residual, const at::Tensor& x) {
  at::Tensor y = like(residual);
  y.copy_(residual);
  if (f.bias.value.defined()) add_row(f.bias.value, y);
  add_linear(x, f.weight.value, y);
  return y;
}

void add_bias_gradient(const Linear& f, const at::Tensor& d) {
  at::Tensor gradient = f.bias.gradient;
  if (gradient.defined()) add_column_sums(d, gradient);
}

// Backward of norm followed by a linear function, from d of their result. The normed x is computed again.
at::Tensor norm_linear_backward(const at::Tensor& x, const Norm& norm, const Linear& f, at::Tensor d) {
  add_bias_gradient(f, d);
  {
    at::Tensor normed = like(x), gradient = f.weight.gradient;
    normalise(x, norm, normed);
    add_weight_gradient(d, normed, gradient);
  }
  at::Tensor dx = like(x);
  linear_backward(d, f.weight.value, dx);
  d.reset();
  normalise_backward(x, norm, dx);
  return dx;
}

at::Tensor normed(const at::Tensor& x, const Norm& norm) {
  at::Tensor y = like(x);
  normalise(x, norm, y);
  return y;
}

}  // namespace

at::Tensor norm_linear(const at::Tensor& x, const Norm& norm, const Linear& f) {
  Tensors y(1);
  {
    const at::AutoDispatchBelowADInplaceOrView plain;
    y[0] = apply(f, normed(x, norm));
  }
  record({x}, {x}, y, [norm, f](const Tensors& saved, Tensors& gradients) -> Tensors {
    return {norm_linear_backward(saved[0], norm, f, std::move(gradients[0]))};
  });
  return y[0];
}

std::vector<at::Tensor> norm_heads(const at::Tensor& x, const Norm& norm, const Linear& f, const Heads& heads,
                                   const at::Tensor& positions) {
  const std::int64_t tokens = x.size(0), dim = heads.head_dim;
  const std::int64_t qk_columns = (heads.heads + heads.kv_heads) * dim, v_columns = heads.kv_heads * dim;
  const bool head_norms = heads.query_norm.has_value();
  Tensors groups, saved{x};
  {
    const at::AutoDispatchBelowADInplaceOrView plain;
    at::Tensor qk, v;
    {
      const at::Tensor y = normed(x, norm);
      if (head_norms) {  // separate products, so that the tensor saved for the norms holds no v
        qk = apply(part(f, 0, qk_columns), y);
        v = apply(part(f, qk_columns, v_columns), y);
        saved.push_back(qk);
      } else {
        const at::Tensor raw = apply(f, y);
        qk = raw.narrow(1, 0, qk_columns);
        v = raw.narrow(1, qk_columns, v_columns);
        if (heads.groups == 1) groups = {raw};
      }
    }
    while (static_cast<std::int64_t>(groups.size()) < heads.groups)
      groups.push_back(at::empty({tokens, (qk_columns + v_columns) / heads.groups}, x.options()));
    split_heads(qk, v, heads, positions, groups);
  }
  record({x}, saved, groups, [norm, f, heads, positions](const Tensors& kept, Tensors& gradients) -> Tensors {
    const std::int64_t rows = f.weight.value.size(0);
    at::Tensor raw = at::empty({gradients[0].size(0), rows}, gradients[0].options());
    split_heads_backward(gradients, kept.size() > 1 ? kept[1] : at::Tensor(), heads, positions, raw);
    gradients.clear();
    return {norm_linear_backward(kept[0], norm, f, std::move(raw))};
  });
  return groups;
}

at::Tensor add_heads(const at::Tensor& residual, const std::vector<at::Tensor>& o, const Linear& f) {
  Tensors y(1);
  {
    const at::AutoDispatchBelowADInplaceOrView plain;
    // One product, so that a bfloat16 result is rounded once.
    y[0] = residual_plus(f, residual, o.size() == 1 ? o[0] : at::cat(o, 1));
  }
  record(o, o, y, [f](const Tensors& saved, Tensors& gradients) -> Tensors {
    const at::Tensor& d = gradients[0];
    add_bias_gradient(f, d);
    Tensors result;
    std::int64_t column = 0;
    for (const at::Tensor& one : saved) {
      const std::int64_t columns = one.size(1);
      at::Tensor gradient = f.weight.gradient.narrow(1, column, columns);
      add_weight_gradient(d, one, gradient);
      result.push_back(like(one));
      linear_backward(d, f.weight.value.narrow(1, column, columns), result.back());
      column += columns;
    }
    return result;
  });
  return y[0];
}

at::Tensor add_activated(const at::Tensor& residual, const at::Tensor& h, model::Activation activation,
                         const Linear& f) {
  Tensors y(1);
  {
    const at::AutoDispatchBelowADInplaceOrView plain;
    at::Tensor a = at::empty({h.size(0), f.weight.value.size(1)}, h.options());
    activate(h, activation, a);
    y[0] = residual_plus(f, residual, a);
  }
  record({h}, {h}, y, [f, activation](const Tensors& saved, Tensors& gradients) -> Tensors {
    const at::Tensor &d = gradients[0], &kept = saved[0];
    add_bias_gradient(f, d);
    at::Tensor a = at::empty({kept.size(0), f.weight.value.size(1)}, kept.options()), gradient = f.weight.gradient;
    at::Tensor dh = like(kept);
    linear_backward(d, f.weight.value, a);
    activate_backward(kept, activation, a, dh);
    add_weight_gradient(d, a, gradient);
    return {dh};
  });
  return y[0];
}

}  // namespace memo::libtorch
