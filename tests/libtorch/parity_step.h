// A training step on the Decoder alone, block by block in the order of memo/model/dataflow.h, everything kept in
// ordinary memory. What the tests compare with Hugging Face and with a plain composition.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "memo/libtorch/model/decoder.h"
#include "memo/libtorch/model/sample.h"

namespace memo::libtorch {

using Tensors = std::vector<at::Tensor>;

struct StepOutcome {
  double loss = 0;    // mean over tokens
  at::Tensor logits;  // [S, V]
};

inline at::Tensor as_leaf(const at::Tensor& tensor) { return tensor.detach().set_requires_grad(true); }

// Zero gradients for parameter values.
inline std::vector<Parameter> with_gradients(const std::vector<model::ParameterSpec>& specs, const Tensors& values) {
  std::vector<Parameter> result;
  for (std::size_t i = 0; i < specs.size(); ++i)
    result.push_back({specs[i].name, values[i], at::zeros(values[i].sizes(), at::kFloat)});
  return result;
}

// Forward and backward of one sample; gradients go to the decoder's parameters.
inline StepOutcome run_step(const Decoder& decoder, const Sample& sample, std::int64_t block) {
  struct BlockGraph {
    Tensors leaves, outputs;
  };
  struct LayerGraphs {
    std::vector<BlockGraph> attn_in, attn_out, mlp_in, mlp_out;
    Tensors qkv, o, lse;  // of each group, whole sequence
  };
  const auto gradients = [](BlockGraph& graph, const Tensors& of_outputs) {
    return torch::autograd::grad(graph.outputs, graph.leaves, of_outputs);
  };
  const auto target_total = static_cast<double>(target_count(sample));
  const std::int64_t context = sample.tokens.size(0);
  const auto groups = static_cast<std::size_t>(decoder.groups());
  std::vector<std::int64_t> first, size;
  for (std::int64_t t = 0; t < context; t += block) {
    first.push_back(t);
    size.push_back(std::min(block, context - t));
  }
  const std::size_t blocks = first.size();
  const auto rows = [&](const at::Tensor& whole, std::size_t b) { return whole.narrow(0, first[b], size[b]); };
  const auto positions = [&](std::size_t b) { return rows(sample.positions, b); };

  StepOutcome outcome;
  Tensors x;
  for (std::size_t b = 0; b < blocks; ++b) x.push_back(decoder.embedding(rows(sample.tokens, b), positions(b)));
  std::vector<LayerGraphs> layers(static_cast<std::size_t>(decoder.shape().layers));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    LayerGraphs& layer = layers[i];
    const model::LayerIndex number(i);
    std::vector<Tensors> parts(groups);
    for (std::size_t b = 0; b < blocks; ++b) {
      const at::Tensor leaf = as_leaf(x[b]);
      layer.attn_in.push_back({{leaf}, decoder.attn_in(number, leaf, positions(b))});
      for (std::size_t g = 0; g < groups; ++g) parts[g].push_back(layer.attn_in[b].outputs[g].detach());
    }
    for (std::size_t g = 0; g < groups; ++g) {
      layer.qkv.push_back(at::cat(parts[g]));
      auto [o, lse] = decoder.attention(layer.qkv[g], sample.document_starts);
      layer.o.push_back(o);
      layer.lse.push_back(lse);
    }
    for (std::size_t b = 0; b < blocks; ++b) {
      Tensors o;
      for (std::size_t g = 0; g < groups; ++g) o.push_back(as_leaf(rows(layer.o[g], b)));
      layer.attn_out.push_back({o, {decoder.attn_out(number, x[b], o)}});
      const at::Tensor x1 = as_leaf(layer.attn_out[b].outputs[0]);
      layer.mlp_in.push_back({{x1}, {decoder.mlp_in(number, x1)}});
      const at::Tensor h = as_leaf(layer.mlp_in[b].outputs[0]);
      layer.mlp_out.push_back({{h}, {decoder.mlp_out(number, x1.detach(), h)}});
      x[b] = layer.mlp_out[b].outputs[0].detach();
    }
  }

  Tensors d, logits;
  LossSum sum;
  for (std::size_t b = 0; b < blocks; ++b) {
    logits.push_back(decoder.logits(x[b]));
    d.push_back(decoder.loss(x[b], rows(sample.targets, b), 1.0 / target_total, sum));
  }
  outcome.logits = at::cat(logits);
  outcome.loss = sum.value() / target_total;

  for (std::size_t i = layers.size(); i-- > 0;) {
    LayerGraphs& layer = layers[i];
    Tensors d1(blocks);
    std::vector<Tensors> d_o(groups, Tensors(blocks));
    for (std::size_t b = blocks; b-- > 0;) {
      const at::Tensor dh = gradients(layer.mlp_out[b], {d[b]})[0];
      d1[b] = gradients(layer.mlp_in[b], {dh})[0] + d[b];
      const Tensors of_o = gradients(layer.attn_out[b], {d1[b]});
      for (std::size_t g = 0; g < groups; ++g) d_o[g][b] = of_o[g];
    }
    Tensors d_qkv;
    for (std::size_t g = 0; g < groups; ++g) {
      auto [dq, dk, dv] =
          decoder.attention_backward(at::cat(d_o[g]), layer.qkv[g], layer.o[g], layer.lse[g], sample.document_starts);
      d_qkv.push_back(at::cat({dq, dk, dv}, 1));
    }
    for (std::size_t b = blocks; b-- > 0;) {
      Tensors of_block;
      for (const at::Tensor& whole : d_qkv) of_block.push_back(rows(whole, b));
      d[b] = gradients(layer.attn_in[b], of_block)[0] + d1[b];
    }
  }
  for (std::size_t b = blocks; b-- > 0;) decoder.embedding_backward(rows(sample.tokens, b), positions(b), d[b]);
  return outcome;
}

inline StepOutcome run_step(const Decoder& decoder, const at::Tensor& window, std::int64_t block) {
  return run_step(decoder, make_sample(window), block);
}

// |a - b| / |b|, of the whole tensors.
inline double relative_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wanted = b.to(at::kDouble);
  return (a.to(at::kDouble) - wanted).norm().item<double>() / std::max(wanted.norm().item<double>(), 1e-30);
}

}  // namespace memo::libtorch
