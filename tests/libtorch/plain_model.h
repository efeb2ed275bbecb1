// A decoder as a plain composition of ATen's operators under autograd: no blocks, no head groups, no plan. What tests
// of one call, a step and a training compare with.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "memo/model/shape.h"
#include "tests/libtorch/parity_step.h"

namespace memo::libtorch {

// The whole model on the whole window, written plainly. `p`: parameters by name. Returns the mean loss.
inline at::Tensor plain_loss(const model::Shape& s, std::map<std::string, at::Tensor> p, const at::Tensor& window) {
  const std::int64_t context = window.size(0) - 1, dim = s.head_dim;
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    if (s.norm == model::Norm::layer)
      return at::layer_norm(x, {x.size(-1)}, p.at(name), p.at(name + ".bias"), s.norm_eps);
    return x * at::rsqrt(x.square().mean(-1, true) + s.norm_eps) * p.at(name);
  };
  const auto linear = [&](const at::Tensor& x, const std::string& name) {
    return at::linear(x, p.at(name), p.contains(name + ".bias") ? p.at(name + ".bias") : at::Tensor());
  };
  at::Tensor angle;  // [S, D / 2]
  if (s.position == model::Position::rope) {
    at::Tensor f = at::pow(s.rope_theta, at::arange(0, dim, 2, at::kDouble) / -static_cast<double>(dim));
    if (std::holds_alternative<model::Llama3Rope>(s.rope_scaling)) {  // blend = 1 keeps a frequency, 0 divides it
      const auto& r = std::get<model::Llama3Rope>(s.rope_scaling);
      const at::Tensor turns = static_cast<double>(r.original_context) * f / (2 * M_PI);
      const at::Tensor blend = ((turns - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor)).clamp(0, 1);
      f = f * blend + f / r.factor * (1 - blend);
    }
    angle = at::outer(at::arange(context, at::kDouble), f);
  }
  const auto turn = [&](const at::Tensor& x) {  // [S, heads, D]
    if (!angle.defined()) return x;
    const at::Tensor c = at::cos(angle).unsqueeze(1), q = at::sin(angle).unsqueeze(1);
    const at::Tensor a = x.narrow(2, 0, dim / 2), b = x.narrow(2, dim / 2, dim / 2);
    return at::cat({a * c - b * q, b * c + a * q}, 2);
  };
  const at::Tensor tokens = window.narrow(0, 0, context);
  at::Tensor x = p.at("embedding").index_select(0, tokens);
  if (s.position == model::Position::learned) x = x + p.at("positions").narrow(0, 0, context);
  const at::Tensor future = at::ones({context, context}, at::kBool).triu(1);
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const std::string at = "layers." + std::to_string(i) + ".";
    const at::Tensor qkv = linear(norm(x, at + "attn_norm"), at + "qkv").view({context, -1, dim});
    at::Tensor q = qkv.narrow(1, 0, s.heads), k = qkv.narrow(1, s.heads, s.kv_heads);
    at::Tensor v = qkv.narrow(1, s.heads + s.kv_heads, s.kv_heads);
    if (s.qk_norm) {
      q = norm(q, at + "q_norm");
      k = norm(k, at + "k_norm");
    }
    const std::int64_t shared = s.heads / s.kv_heads;
    q = turn(q).transpose(0, 1);
    k = turn(k).transpose(0, 1).repeat_interleave(shared, 0);
    v = v.transpose(0, 1).repeat_interleave(shared, 0);
    const at::Tensor scores = at::matmul(q, k.transpose(1, 2)) / std::sqrt(static_cast<double>(dim));
    const at::Tensor weights = at::softmax(scores.masked_fill(future, -INFINITY), -1);
    x = x + linear(at::matmul(weights, v).transpose(0, 1).flatten(1), at + "out");
    const at::Tensor h = linear(norm(x, at + "mlp_norm"), at + "mlp_in");
    const at::Tensor a = s.activation == model::Activation::silu
                             ? at::silu(h.narrow(1, 0, s.ffn)) * h.narrow(1, s.ffn, s.ffn)
                             : at::gelu(h, "tanh");
    x = x + linear(a, at + "mlp_out");
  }
  const at::Tensor logits = at::linear(norm(x, "final_norm"), p.at(s.tied ? "embedding" : "head"));
  return at::cross_entropy_loss(logits, window.narrow(0, 1, context));
}

// A model of its own values in float64, and the loss and gradients of some sequences: means over them.
struct PlainModel {
  PlainModel(model::Shape of, const std::vector<model::ParameterSpec>& specs, const Tensors& masters)
      : shape(std::move(of)) {
    for (std::size_t i = 0; i < specs.size(); ++i) {
      names.push_back(specs[i].name);
      values.push_back(as_leaf(masters[i].to(at::kDouble).clone()));
    }
  }
  struct Outcome {
    double loss = 0, norm = 0;
    Tensors gradients;
  };
  [[nodiscard]] Outcome operator()(const std::vector<at::Tensor>& windows) const {  // [S + 1] int64 each
    std::map<std::string, at::Tensor> named;
    for (std::size_t i = 0; i < names.size(); ++i) named[names[i]] = values[i];
    at::Tensor sum = at::zeros({}, at::kDouble);
    for (const at::Tensor& window : windows) sum = sum + plain_loss(shape, named, window);
    const at::Tensor loss = sum / static_cast<double>(windows.size());
    Outcome outcome{loss.item<double>(), 0, torch::autograd::grad({loss}, values)};
    for (const at::Tensor& gradient : outcome.gradients) outcome.norm += gradient.square().sum().item<double>();
    outcome.norm = std::sqrt(outcome.norm);
    return outcome;
  }
  model::Shape shape;
  std::vector<std::string> names;
  Tensors values;
};

}  // namespace memo::libtorch
