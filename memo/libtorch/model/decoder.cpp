// A decoder's layers, built from named parameters, and the tiles of its loss.
#include "memo/libtorch/model/decoder.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <unordered_map>

#include "memo/base/check.h"
#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/model/functions.h"
#include "memo/model/device_sizes.h"

namespace memo::libtorch {
namespace {

struct Layer {
  Norm attn_norm, mlp_norm;
  Linear qkv, out, mlp_in, mlp_out;
  Heads heads;
};

// The losses of a block's tokens, float64. On the CPU their memory is not LibTorch's, whose allocations are planned.
class TokenLosses {
 public:
  explicit TokenLosses(const at::Tensor& x)
      : host_(x.is_cpu() ? static_cast<std::size_t>(x.size(0)) : 0),
        all_(x.is_cpu() ? at::from_blob(host_.data(), {x.size(0)}, at::kDouble)
                        : at::empty({x.size(0)}, x.options().dtype(at::kDouble))) {}
  [[nodiscard]] at::Tensor at(std::int64_t first, std::int64_t count) const { return all_.narrow(0, first, count); }
  void add_to(LossSum& sum) const {
    for (const double value : host_) sum.host += value;
    if (!all_.is_cpu()) sum.on_device.add_(all_.sum());
  }
  [[nodiscard]] at::Tensor as_float() const { return all_.to(at::kFloat); }

 private:
  std::vector<double> host_;
  at::Tensor all_;
};

}  // namespace

struct Decoder::Impl {
  Impl(const model::Shape& given, int group_count, std::vector<Parameter> parameters, Tokens tile,
       const AttentionKernel* attention)
      : shape(given),
        groups(group_count),
        loss_tile(tile),
        kernel(attention ? *attention : attention_kernels(parameters.front().value.device().type()).front()) {
    MEMO_CHECK(groups > 0 && shape.kv_heads % groups == 0, "the head groups divide the key heads");
    for (Parameter& parameter : parameters) named.emplace(parameter.name, std::move(parameter));
    embedding = find("embedding");
    positions = find("positions");
    final_norm = norm("final_norm");
    head = shape.tied ? embedding : find("head");
    for (std::int64_t i = 0; i < shape.layers; ++i) layers.push_back(layer("layers." + std::to_string(i) + "."));
    named.clear();
  }

  // Undefined tensors when the shape has no such parameter.
  [[nodiscard]] Parameter find(const std::string& name) const {
    const auto found = named.find(name);
    return found == named.end() ? Parameter{} : found->second;
  }
  [[nodiscard]] Norm norm(const std::string& name) const {
    Norm result{find(name), find(name + ".bias"), shape.norm == model::Norm::layer, shape.norm_eps};
    MEMO_CHECK(result.weight.value.defined(), "a decoder has the parameters of its shape");
    return result;
  }
  [[nodiscard]] Linear linear_named(const std::string& name) const {
    Linear result{find(name), find(name + ".bias")};
    MEMO_CHECK(result.weight.value.defined(), "a decoder has the parameters of its shape");
    return result;
  }
  [[nodiscard]] Layer layer(const std::string& prefix) const {
    const model::Rotation rotation = model::rotation(shape);
    Layer result{
        norm(prefix + "attn_norm"),
        norm(prefix + "mlp_norm"),
        linear_named(prefix + "qkv"),
        linear_named(prefix + "out"),
        linear_named(prefix + "mlp_in"),
        linear_named(prefix + "mlp_out"),
        {groups, shape.heads, shape.kv_heads, shape.head_dim, rotation.frequencies, {}, {}, {}, rotation.scale}};
    if (!result.qkv.weight.value.is_cpu() && !result.heads.frequencies.empty())
      result.heads.frequencies_there = at::tensor(result.heads.frequencies).to(result.qkv.weight.value.device());
    if (shape.qk_norm) {
      result.heads.query_norm = Norm{find(prefix + "q_norm"), {}, false, shape.norm_eps};
      result.heads.key_norm = Norm{find(prefix + "k_norm"), {}, false, shape.norm_eps};
    }
    return result;
  }
  [[nodiscard]] GroupHeads group_heads() const {
    return {shape.heads / groups, shape.kv_heads / groups, shape.head_dim};
  }

  // How many rows' logits are computed together.
  [[nodiscard]] std::int64_t tile_rows(const at::Tensor& x) const {
    const Bytes row(shape.vocab * static_cast<std::int64_t>(x.element_size()));
    const Tokens tile = loss_tile > Tokens(0) ? loss_tile : model::DeviceSizes().loss_tile(Tokens(x.size(0)), row);
    return std::min(x.size(0), tile.value());
  }

  // Calls f(first row, rows, normed rows, logits) for each tile of rows, with logits computed by the final norm and the
  // head.
  template <class F>
  void for_tiles(const at::Tensor& x, const F& f) const {
    const std::int64_t rows = tile_rows(x);
    const at::Tensor normed = at::empty({rows, shape.hidden}, x.options());
    const at::Tensor logits = at::empty({rows, shape.vocab}, x.options());
    for (std::int64_t first = 0; first < x.size(0); first += rows) {
      const std::int64_t n = std::min(rows, x.size(0) - first);
      at::Tensor some_normed = normed.narrow(0, 0, n), some_logits = logits.narrow(0, 0, n);
      normalise(x.narrow(0, first, n), final_norm, some_normed);
      linear(some_normed, head.value, some_logits);
      f(first, n, some_normed, some_logits);
    }
  }

  model::Shape shape;
  int groups;
  Tokens loss_tile;
  const AttentionKernel& kernel;
  std::unordered_map<std::string, Parameter> named;  // while the constructor runs
  Parameter embedding, positions, head;
  Norm final_norm;
  IndexedVector<model::LayerIndex, Layer> layers;
};

Decoder::Decoder(const model::Shape& shape, int groups, std::vector<Parameter> parameters, Tokens loss_tile,
                 const AttentionKernel* kernel)
    : impl_(std::make_unique<Impl>(shape, groups, std::move(parameters), loss_tile, kernel)) {}
Decoder::~Decoder() = default;

const model::Shape& Decoder::shape() const { return impl_->shape; }
int Decoder::groups() const { return impl_->groups; }

at::Tensor Decoder::embedding(const at::Tensor& tokens, const at::Tensor& positions) const {
  const Parameter& table = impl_->embedding;
  at::Tensor x = at::empty({tokens.size(0), impl_->shape.hidden}, table.value.options());
  gather_rows(tokens, table.value, positions, impl_->positions.value, x);
  return x;
}

void Decoder::embedding_backward(const at::Tensor& tokens, const at::Tensor& positions, const at::Tensor& d) const {
  at::Tensor gradient = impl_->embedding.gradient;
  add_rows(tokens, d, gradient);
  if (!impl_->positions.value.defined()) return;
  at::Tensor position_gradient = impl_->positions.gradient;
  add_rows(positions, d, position_gradient);
}

std::vector<at::Tensor> Decoder::attn_in(model::LayerIndex layer, const at::Tensor& x,
                                         const at::Tensor& positions) const {
  const Layer& l = impl_->layers[layer];
  return norm_heads(x, l.attn_norm, l.qkv, l.heads, positions);
}

at::Tensor Decoder::attn_out(model::LayerIndex layer, const at::Tensor& x, const std::vector<at::Tensor>& o) const {
  return add_heads(x, o, impl_->layers[layer].out);
}

at::Tensor Decoder::mlp_in(model::LayerIndex layer, const at::Tensor& x1) const {
  const Layer& l = impl_->layers[layer];
  return norm_linear(x1, l.mlp_norm, l.mlp_in);
}

at::Tensor Decoder::mlp_out(model::LayerIndex layer, const at::Tensor& x1, const at::Tensor& h) const {
  return add_activated(x1, h, impl_->shape.activation, impl_->layers[layer].mlp_out);
}

std::tuple<at::Tensor, at::Tensor> Decoder::attention(const at::Tensor& qkv,
                                                      std::span<const std::int64_t> document_starts) const {
  return impl_->kernel.forward(qkv, impl_->group_heads(), {document_starts, impl_->shape.sliding_window}, {});
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> Decoder::attention_backward(
    const at::Tensor& d_o, const at::Tensor& qkv, const at::Tensor& o, const at::Tensor& lse,
    std::span<const std::int64_t> document_starts, bool any_order) const {
  return impl_->kernel.backward(d_o, qkv, o, lse, impl_->group_heads(),
                                {document_starts, impl_->shape.sliding_window, {}, 0, any_order});
}

at::Tensor Decoder::loss(const at::Tensor& x, const at::Tensor& targets, double scale, LossSum& loss_sum) const {
  const at::AutoDispatchBelowADInplaceOrView plain;
  at::Tensor d = at::empty(x.sizes(), x.options()), head_gradient = impl_->head.gradient;
  const TokenLosses losses(x);
  impl_->for_tiles(x, [&](std::int64_t first, std::int64_t n, const at::Tensor& normed, at::Tensor& logits) {
    cross_entropy_in_place(logits, targets.narrow(0, first, n), scale, losses.at(first, n));
    at::Tensor rows = d.narrow(0, first, n);
    linear_backward(logits, impl_->head.value, rows);
    add_weight_gradient(logits, normed, head_gradient);
    normalise_backward(x.narrow(0, first, n), impl_->final_norm, rows);
  });
  losses.add_to(loss_sum);
  return d;
}

at::Tensor Decoder::token_losses(const at::Tensor& x, const at::Tensor& targets) const {
  const at::AutoDispatchBelowADInplaceOrView plain;
  const TokenLosses losses(x);
  impl_->for_tiles(x, [&](std::int64_t first, std::int64_t n, const at::Tensor&, const at::Tensor& logits) {
    cross_entropy(logits, targets.narrow(0, first, n), losses.at(first, n));
  });
  return losses.as_float();
}

at::Tensor Decoder::logits(const at::Tensor& x) const {
  const at::AutoDispatchBelowADInplaceOrView plain;
  at::Tensor result = at::empty({x.size(0), impl_->shape.vocab}, x.options().dtype(at::kFloat));
  impl_->for_tiles(x, [&](std::int64_t first, std::int64_t n, const at::Tensor&, const at::Tensor& logits) {
    result.narrow(0, first, n).copy_(logits);
  });
  return result;
}

}  // namespace memo::libtorch
