// The functions of kernels.h and attention.h on tensors of a GPU: in a build with CUDA, those begin with
// MEMO_ON_GPU. Products and attention are LibTorch's, the rest memo/kernels; all run on LibTorch's current stream.
#pragma once

#include "memo/torch/attention.h"
#include "memo/torch/kernels.h"

#ifdef MEMO_CUDA
#define MEMO_ON_GPU(tensor, call) \
  if ((tensor).is_cuda()) return on_gpu::call
#else
#define MEMO_ON_GPU(tensor, call) static_assert(true)
#endif

namespace memo::edge::on_gpu {

void add_weight_gradient(const at::Tensor& d, const at::Tensor& x, at::Tensor& gradient);
void normalise(const at::Tensor& x, const Norm& norm, at::Tensor& y);
void normalise_backward(const at::Tensor& x, const Norm& norm, at::Tensor& d);
void activate(const at::Tensor& h, model::Activation activation, at::Tensor& a);
void activate_backward(const at::Tensor& h, model::Activation activation, at::Tensor& a, at::Tensor& dh);
void split_heads(const at::Tensor& qk, const at::Tensor& v, const Heads& heads, const at::Tensor& positions,
                 const std::vector<at::Tensor>& groups);
void split_heads_backward(const std::vector<at::Tensor>& groups, const at::Tensor& qk, const Heads& heads,
                          const at::Tensor& positions, at::Tensor& raw);
// `losses` [R] double, of the GPU.
void cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& losses);
void cross_entropy_in_place(at::Tensor& logits, const at::Tensor& targets, double scale, const at::Tensor& losses);
void gather_rows(const at::Tensor& tokens, const at::Tensor& embedding, const at::Tensor& positions,
                 const at::Tensor& table, at::Tensor& x);
void add_rows(const at::Tensor& tokens, const at::Tensor& d, at::Tensor& gradient);
void fill_rows(const at::Tensor& row, at::Tensor& y);
void add_row(const at::Tensor& row, at::Tensor& y);
void add_column_sums(const at::Tensor& d, at::Tensor& gradient);

// bfloat16 only, as flash attention is.
std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& qkv, const GroupHeads& heads, const Mask& mask,
                                                    std::optional<QueryRange> range);
std::tuple<at::Tensor, at::Tensor, at::Tensor> causal_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                         const at::Tensor& o, const at::Tensor& lse,
                                                                         const GroupHeads& heads, const Mask& mask);

}  // namespace memo::edge::on_gpu
