// The decoder's element-wise kernels, vectorised (simd.h) and parallel over rows, and its matrix products. Memory holds
// float32 or bfloat16, arithmetic is float32. The bits are the same on every run and at any number of threads: sums
// over rows go by chunks of fixed size. Tensors are contiguous, or rows of a wider tensor where it says so.
// dispatch.cpp calls the kernels of the device on which the tensors lie; these here are the CPU's, memo/gpu/kernels.h
// has a GPU's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "memo/libtorch/kernels/parameter.h"
#include "memo/model/shape.h"

namespace memo::libtorch {

// ---- matrix products: x [T, K], weight [N, K], y and d [T, N]. All may be rows of wider tensors.
void linear(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y);                 // y = x weight'
void add_linear(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y);             // y += x weight'
void linear_backward(const at::Tensor& d, const at::Tensor& weight, at::Tensor& dx);       // dx = d weight
void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient);  // gradient += d' x, float32

// ---- normalisation of rows
struct Norm {
  Parameter weight, bias;  // bias undefined: none
  bool layer = false;      // layer norm, which subtracts the mean first; else RMS norm
  double eps = 1e-5;
};
void normalise(const at::Tensor& x, const Norm& norm, at::Tensor& y);
// `d`: the gradient of normalise's result on entry, of x on return. Accumulates the gradients of weight and bias.
void normalise_backward(const at::Tensor& x, const Norm& norm, at::Tensor& d);

// ---- the activation of the MLP: h [T, 2F] gate|up -> a = silu(gate) * up, or h [T, F] -> a = gelu_tanh(h)
void activate(const at::Tensor& h, model::Activation activation, at::Tensor& a);
// `a`: its gradient on entry, a itself on return (for the gradient of the weight after it). Writes dh.
void activate_backward(const at::Tensor& h, model::Activation activation, at::Tensor& a, at::Tensor& dh);

// ---- queries, keys and values: raw [T, (heads + 2 kv_heads) D], columns q|k|v, to and from groups [T, (Hg + 2 Kg) D]
struct Heads {
  std::int64_t groups = 1, heads = 0, kv_heads = 0, head_dim = 0;
  std::vector<float> frequencies;            // rotary, [D / 2]; empty: no rotation
  at::Tensor frequencies_there;              // a copy of them on the GPU, if the parameters are there
  std::optional<Norm> query_norm, key_norm;  // RMS norm of each head before rotation
  float rotation_scale = 1;                  // factor of cosine and sine
};
// Norms, rotates and splits. `positions` [T] int64. `qk` is the first columns of raw, `v` the last ones; both may be
// rows of a wider tensor. A single group may be raw itself.
void split_heads(const at::Tensor& qk, const at::Tensor& v, const Heads& heads, const at::Tensor& positions,
                 const std::vector<at::Tensor>& groups);
// The gradient of raw from the gradients of the groups. `qk`: as given to split_heads; needed where heads are normed.
void split_heads_backward(const std::vector<at::Tensor>& groups, const at::Tensor& qk, const Heads& heads,
                          const at::Tensor& positions, at::Tensor& raw);

// ---- cross entropy: logits [R, V] -> losses [R] float64, 0 where targets < 0
void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses);
// The same, and replaces logits by scale * d(loss)/d(logits).
void cross_entropy_in_place(at::Tensor& logits, const at::Tensor& targets, double scale, const at::Tensor& losses);

// ---- the norm of gradients
// How many partial sums a GPU makes.
inline constexpr std::int64_t square_sums = 512;
// sum[0] = the sum of x's squares, float64, added in one order at any number of threads. x float32. It allocates
// nothing. `partial`, which only a GPU uses: float64 [square_sums].
void sum_squares(const at::Tensor& x, const at::Tensor& partial, const at::Tensor& sum);

// ---- tables and biases
// x[t] = embedding[tokens[t]] (+ table[positions[t]] if defined)
void gather_rows(const at::Tensor& tokens, const at::Tensor& embedding, const at::Tensor& positions,
                 const at::Tensor& table, at::Tensor& x);
void add_rows(const at::Tensor& tokens, const at::Tensor& d, at::Tensor& gradient);  // gradient[tokens[t]] += d[t]
void fill_rows(const at::Tensor& row, at::Tensor& y);                                // y[t] = row
void add_row(const at::Tensor& row, at::Tensor& y);                                  // y[t] += row
void add_column_sums(const at::Tensor& d, at::Tensor& gradient);                     // gradient += sum over t of d[t]

}  // namespace memo::libtorch
