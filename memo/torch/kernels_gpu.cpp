#include "memo/torch/kernels_gpu.h"

#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <array>

#include "memo/base/check.h"
#include "memo/kernels/launch.h"
#include "memo/torch/allocator.h"

namespace memo::edge::on_gpu {
namespace {

cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

kernels::Rows size_of(const at::Tensor& tensor) { return {tensor.size(0), tensor.size(1)}; }

// f(T{}), which launches kernels, with the element's type as they know it.
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

// A group's query heads, or its key heads: where they lie in the group's rows and in all heads' rows.
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

void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient) {
  if (d.scalar_type() == at::kFloat) {
    at::addmm_out(gradient, gradient, d.t(), x);
  } else {
    at::addmm_out(gradient, gradient, d.t(), x, at::kFloat);  // float32 sums of bfloat16 products
  }
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

void gather_rows(const at::Tensor& tokens, const at::Tensor& embedding, const at::Tensor& positions,
                 const at::Tensor& table, at::Tensor& x) {
  at::index_select_out(x, embedding, 0, tokens);
  if (table.defined()) x.add_(table.index_select(0, positions));
}

// Sorted by token, so that each sum has one order.
void add_rows(const at::Tensor& tokens, const at::Tensor& d, at::Tensor& gradient) {
  gradient.index_put_({tokens}, d.to(at::kFloat), /*accumulate=*/true);
}

void fill_rows(const at::Tensor& row, at::Tensor& y) { y.copy_(row.expand_as(y)); }
void add_row(const at::Tensor& row, at::Tensor& y) { y.add_(row); }
void add_column_sums(const at::Tensor& d, at::Tensor& gradient) { gradient.add_(d.sum(0, false, at::kFloat)); }

namespace {

at::Tensor heads_at(const at::Tensor& rows, std::int64_t first, std::int64_t count, std::int64_t dim) {
  return rows.narrow(1, first * dim, count * dim).unflatten(1, {count, dim});
}

// q, k and v as flash attention takes them: [1, tokens, heads, dim], or without the 1 where documents are apart, with
// the first row of each in q and k, and the number of rows.
struct Operands {
  at::Tensor q, k, v, starts_q, starts_k;
  std::int64_t longest_q = 0, longest_k = 0;
  [[nodiscard]] at::Tensor whole(const at::Tensor& rows) const { return starts_q.defined() ? rows : rows.unsqueeze(0); }
};

// Query rows [first, last) and the keys of the documents that they are in. Causality is that of the last rows.
Operands operands(const at::Tensor& qkv, const GroupHeads& h, const Mask& mask, QueryRange range) {
  std::vector<std::int64_t> starts{0};
  for (const std::int64_t start : mask.starts)
    if (0 < start && start < range.last) starts.push_back(start);
  starts.push_back(range.last);
  std::vector<int> q{0}, k{0};
  Operands result;
  std::int64_t first_key = 0;
  for (std::size_t d = 0; d + 1 < starts.size(); ++d) {
    const std::int64_t begin = std::max(starts[d], range.first), end = starts[d + 1];
    if (begin >= end) {
      first_key = end;
      continue;
    }
    q.push_back(static_cast<int>(end - range.first));
    k.push_back(static_cast<int>(end - first_key));
    result.longest_q = std::max(result.longest_q, end - begin);
    result.longest_k = std::max(result.longest_k, end - starts[d]);
  }
  if (q.size() > 2) {
    const UnplannedScope other_sizes_each_time(at::kCUDA);
    const auto there = [&](const std::vector<int>& values) {
      return at::tensor(values, at::dtype(at::kInt)).to(qkv.device(), /*non_blocking=*/true);
    };
    result.starts_q = there(q);
    result.starts_k = there(k);
  }
  const at::Tensor keys = qkv.narrow(0, first_key, range.last - first_key);
  result.q = result.whole(heads_at(qkv.narrow(0, range.first, range.last - range.first), 0, h.queries, h.dim));
  result.k = result.whole(heads_at(keys, h.queries, h.keys, h.dim));
  result.v = result.whole(heads_at(keys, h.queries + h.keys, h.keys, h.dim));
  return result;
}

std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

std::optional<std::int64_t> before(const Mask& mask) {
  return mask.window > 0 ? std::optional(mask.window - 1) : std::nullopt;
}
std::optional<std::int64_t> behind(const Mask& mask) {
  return mask.window > 0 ? std::optional<std::int64_t>(0) : std::nullopt;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                                                    std::optional<QueryRange> given) {
  MEMO_CHECK(qkv.scalar_type() == at::kBFloat16, "attention on a GPU is of bfloat16");
  MEMO_CHECK(heads.softcap == 0, "attention on a GPU has no soft cap");
  const QueryRange range = given.value_or(QueryRange{0, qkv.size(0)});
  const Operands x = operands(qkv, heads, mask, range);
  const auto result = at::_flash_attention_forward(
      x.q, x.k, x.v, if_defined(x.starts_q), if_defined(x.starts_k), x.longest_q, x.longest_k, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, std::optional<double>(), before(mask), behind(mask));
  const std::int64_t rows = range.last - range.first;
  const at::Tensor o = std::get<0>(result).reshape({rows, heads.queries * heads.dim});
  at::Tensor lse = floats({rows, heads.queries}, qkv);
  lse.copy_(std::get<1>(result).reshape({heads.queries, rows}).t());
  return {o, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads, const Mask& mask) {
  const std::int64_t tokens = qkv.size(0);
  const Operands x = operands(qkv, heads, mask, {0, tokens});
  const auto whole = [&](const at::Tensor& rows) { return x.whole(heads_at(rows, 0, heads.queries, heads.dim)); };
  const at::Tensor no_dropout = at::empty({2}, qkv.options().dtype(at::kUInt64));
  const auto [dq, dk, dv] =
      at::_flash_attention_backward(whole(d_o), x.q, x.k, x.v, whole(o), x.whole(lse.t().contiguous()), x.starts_q,
                                    x.starts_k, x.longest_q, x.longest_k, /*dropout_p=*/0.0, /*is_causal=*/true,
                                    no_dropout, no_dropout, std::optional<double>(), before(mask), behind(mask));
  const auto rows = [&](const at::Tensor& gradient, std::int64_t count) {
    return gradient.reshape({tokens, count * heads.dim});
  };
  return {rows(dq, heads.queries), rows(dk, heads.keys), rows(dv, heads.keys)};
}

}  // namespace memo::edge::on_gpu
