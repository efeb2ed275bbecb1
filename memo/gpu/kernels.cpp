// Takes tensors to the launches of memo/kernels and to LibTorch's products.
#include "memo/gpu/kernels.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/ones.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include <array>

#include "memo/base/check.h"
#include "memo/gpu/attention.h"
#include "memo/kernels/launch.h"

namespace memo::gpu {
namespace {

using namespace libtorch;  // the types of kernels' arguments

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

kernels::Rows size_of(const at::Tensor& tensor) { return {tensor.size(0), tensor.size(1)}; }

// Calls f(T{}), which launches kernels, with the kernels' type for the tensor's elements.
template <class F>
void with_type(const at::Tensor& tensor, const F& f) {
  MEMO_CHECK(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16,
             "a tensor is float32 or bfloat16");
  if (tensor.scalar_type() == at::kFloat)
    f(float{});
  else
    f(__nv_bfloat16{});
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}
template <class T>
const T* in(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}
template <class T>
T* out(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

at::Tensor floats(at::IntArrayRef sizes, const at::Tensor& like) {
  return at::empty(sizes, like.options().dtype(at::kFloat));
}

std::int64_t chunks_of(std::int64_t rows) { return (rows + kernels::rows_of_chunk - 1) / kernels::rows_of_chunk; }

template <class T>
kernels::Heads<T> heads_of(const Heads& h, std::int64_t rows, std::int64_t count, const at::Tensor& positions,
                           const std::optional<Norm>& norm) {
  kernels::Heads<T> result;
  result.rows = rows;
  result.heads = count;
  result.dim = h.head_dim;
  result.frequencies = in<float>(h.frequencies_there);
  result.rotation_scale = h.rotation_scale;
  result.positions = in<std::int64_t>(positions);
  if (norm) {
    result.weight = in<T>(norm->weight.value);
    result.eps = static_cast<float>(norm->eps);
  }
  return result;
}

// Where a group's query heads, or its key heads, lie in the group's rows and in the rows of all heads.
struct Part {
  std::int64_t count, in_group, in_all;
  const std::optional<Norm>& norm;
};
std::array<Part, 2> parts_of(const Heads& h, std::int64_t group) {
  const std::int64_t queries = h.heads / h.groups, keys = h.kv_heads / h.groups;
  return {Part{queries, 0, group * queries * h.head_dim, h.query_norm},
          Part{keys, queries * h.head_dim, (h.heads + group * keys) * h.head_dim, h.key_norm}};
}

void launch_cross_entropy(const at::Tensor& logits, const at::Tensor& targets, bool in_place, double scale,
                          const at::Tensor& losses) {
  with_type(logits, [&](auto t) {
    using T = decltype(t);
    kernels::cross_entropy(out<T>(logits), in<std::int64_t>(targets), size_of(logits), in_place,
                           static_cast<float>(scale), out<double>(losses), stream());
  });
}

}  // namespace

namespace on_gpu {

void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient) {
  if (d.scalar_type() == at::kFloat) {
    at::addmm_out(gradient, gradient, d.t(), x);
  } else {
    at::addmm_out(gradient, gradient, d.t(), x, at::kFloat);  // float32 sums of bfloat16 products
  }
}

// As a product with ones: sum() over many rows asks for a buffer of up to 1 MiB a column (ATen's Reduce.cuh).
void add_column_sums(const at::Tensor& d, at::Tensor& gradient) {
  at::Tensor row = gradient.unsqueeze(0);
  add_weight_gradient(at::ones({d.size(0), 1}, d.options()), d, row);
}

void normalise(const at::Tensor& x, const Norm& norm, at::Tensor& y) {
  with_type(x, [&](auto t) {
    using T = decltype(t);
    kernels::norm(in<T>(x), in<T>(norm.weight.value), in<T>(norm.bias.value), out<T>(y), size_of(x), norm.layer,
                  static_cast<float>(norm.eps), stream());
  });
}

void normalise_backward(const at::Tensor& x, const Norm& norm, at::Tensor& d) {
  const std::int64_t rows = x.size(0), columns = x.size(1);
  const at::Tensor of_rows = floats({rows, 2}, x), d_weight = floats({chunks_of(rows), columns}, x);
  const at::Tensor d_bias = norm.bias.value.defined() ? floats({chunks_of(rows), columns}, x) : at::Tensor();
  static_assert(sizeof(kernels::Statistics) == 2 * sizeof(float));
  with_type(x, [&](auto t) {
    using T = decltype(t);
    kernels::norm_backward(in<T>(x), in<T>(norm.weight.value), out<T>(d), out<kernels::Statistics>(of_rows),
                           out<float>(d_weight), out<float>(d_bias), size_of(x), norm.layer,
                           static_cast<float>(norm.eps), stream());
  });
  at::Tensor weight_gradient = norm.weight.gradient, bias_gradient = norm.bias.gradient;
  add_column_sums(d_weight, weight_gradient);
  if (d_bias.defined()) add_column_sums(d_bias, bias_gradient);
}

void activate(const at::Tensor& h, model::Activation activation, at::Tensor& a) {
  with_type(h, [&](auto t) {
    using T = decltype(t);
    kernels::activation(in<T>(h), out<T>(a), size_of(a), activation == model::Activation::silu, stream());
  });
}

void activate_backward(const at::Tensor& h, model::Activation activation, at::Tensor& a, at::Tensor& dh) {
  with_type(h, [&](auto t) {
    using T = decltype(t);
    kernels::activation_backward(in<T>(h), out<T>(a), out<T>(dh), size_of(a), activation == model::Activation::silu,
                                 stream());
  });
}

void split_heads(const at::Tensor& qk, const at::Tensor& v, const Heads& heads, const at::Tensor& positions,
                 const std::vector<at::Tensor>& groups) {
  const std::int64_t values = heads.kv_heads / heads.groups * heads.head_dim;
  with_type(qk, [&](auto t) {
    using T = decltype(t);
    for (std::int64_t g = 0; g < heads.groups; ++g) {
      const at::Tensor& group = groups[static_cast<std::size_t>(g)];
      for (const Part& part : parts_of(heads, g)) {
        auto those = heads_of<T>(heads, qk.size(0), part.count, positions, part.norm);
        those.x_row = qk.stride(0);
        those.y_row = group.stride(0);
        kernels::turn_heads(those, in<T>(qk) + part.in_all, out<T>(group) + part.in_group, stream());
      }
      at::Tensor to = group.narrow(1, group.size(1) - values, values);
      const at::Tensor from = v.narrow(1, g * values, values);
      if (to.const_data_ptr() != from.const_data_ptr()) to.copy_(from);
    }
  });
}

void split_heads_backward(const std::vector<at::Tensor>& groups, const at::Tensor& qk, const Heads& heads,
                          const at::Tensor& positions, at::Tensor& raw) {
  const std::int64_t rows = raw.size(0), dim = heads.head_dim, values = heads.kv_heads / heads.groups * dim;
  with_type(raw, [&](auto t) {
    using T = decltype(t);
    for (std::int64_t g = 0; g < heads.groups; ++g) {
      const at::Tensor& group = groups[static_cast<std::size_t>(g)];
      for (const Part& part : parts_of(heads, g)) {
        auto those = heads_of<T>(heads, rows, part.count, positions, part.norm);
        those.x_row = part.norm ? qk.stride(0) : 0;
        those.y_row = group.stride(0);
        const at::Tensor d_weight = part.norm ? floats({rows * part.count, dim}, raw) : at::Tensor();
        kernels::turn_heads_backward(those, in<T>(group) + part.in_group, part.norm ? in<T>(qk) + part.in_all : nullptr,
                                     out<T>(raw) + part.in_all, raw.stride(0), out<float>(d_weight), stream());
        if (!part.norm) continue;
        at::Tensor gradient = part.norm->weight.gradient;
        add_column_sums(d_weight, gradient);
      }
      raw.narrow(1, (heads.heads + heads.kv_heads) * dim + g * values, values)
          .copy_(group.narrow(1, group.size(1) - values, values));
    }
  });
}

void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses) {
  launch_cross_entropy(logits, targets, false, 1.0, losses);
}

void cross_entropy_in_place(at::Tensor& logits, const at::Tensor& targets, double scale, const at::Tensor& losses) {
  launch_cross_entropy(logits, targets, true, scale, losses);
}

static_assert(kernels::square_sums == libtorch::square_sums);
void sum_squares(const at::Tensor& x, const at::Tensor& partial, const at::Tensor& sum) {
  kernels::sum_squares(in<float>(x), x.numel(), out<double>(partial), out<double>(sum), stream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void gather_rows(const at::Tensor& tokens, const at::Tensor& embedding, const at::Tensor& positions,
                 const at::Tensor& table, at::Tensor& x) {
  at::index_select_out(x, embedding, 0, tokens);
  if (table.defined()) x.add_(table.index_select(0, positions));
}

// index_put_ sorts by token, so each sum has one order.
void add_rows(const at::Tensor& tokens, const at::Tensor& d, at::Tensor& gradient) {
  gradient.index_put_({tokens}, d.to(at::kFloat), /*accumulate=*/true);
}

void fill_rows(const at::Tensor& row, at::Tensor& y) { y.copy_(row.expand_as(y)); }
void add_row(const at::Tensor& row, at::Tensor& y) { y.add_(row); }

}  // namespace on_gpu

const libtorch::Kernels& kernels() {
  static const Kernels all = [] {
    Kernels table{};
    table.attention = attention();
    table.add_weight_gradient = on_gpu::add_weight_gradient;
    table.normalise = on_gpu::normalise;
    table.normalise_backward = on_gpu::normalise_backward;
    table.activate = on_gpu::activate;
    table.activate_backward = on_gpu::activate_backward;
    table.split_heads = on_gpu::split_heads;
    table.split_heads_backward = on_gpu::split_heads_backward;
    table.cross_entropy = on_gpu::cross_entropy;
    table.cross_entropy_in_place = on_gpu::cross_entropy_in_place;
    table.sum_squares = on_gpu::sum_squares;
    table.gather_rows = on_gpu::gather_rows;
    table.add_rows = on_gpu::add_rows;
    table.fill_rows = on_gpu::fill_rows;
    table.add_row = on_gpu::add_row;
    table.add_column_sums = on_gpu::add_column_sums;
    return table;
  }();
  return all;
}

}  // namespace memo::gpu
