// Runs the layers over one window at a time, by blocks, without a plan.
#include "memo/libtorch/train/evaluation.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "memo/libtorch/model/sample.h"

namespace memo::libtorch {
namespace {

// Tokens [first, first + rows) of a window.
struct Slice {
  std::int64_t first, rows;
  [[nodiscard]] at::Tensor of(const at::Tensor& tensor) const { return tensor.narrow(0, first, rows); }
};

std::vector<Slice> slices(std::int64_t tokens, std::int64_t block) {
  std::vector<Slice> all;
  for (std::int64_t first = 0; first < tokens; first += block) all.push_back({first, std::min(block, tokens - first)});
  return all;
}

void layer_forward(const Decoder& decoder, model::LayerIndex layer, const std::vector<Slice>& blocks,
                   const at::Tensor& positions, at::Tensor& x) {
  const auto groups = static_cast<std::size_t>(decoder.groups());
  std::vector<at::Tensor> qkv(groups), o(groups);
  for (const Slice& block : blocks) {
    const std::vector<at::Tensor> part = decoder.attn_in(layer, block.of(x), block.of(positions));
    for (std::size_t g = 0; g < groups; ++g) {
      if (!qkv[g].defined()) qkv[g] = at::empty({x.size(0), part[g].size(1)}, part[g].options());
      block.of(qkv[g]).copy_(part[g]);
    }
  }
  for (std::size_t g = 0; g < groups; ++g) {
    o[g] = std::get<0>(decoder.attention(qkv[g]));
    qkv[g].reset();
  }
  for (const Slice& block : blocks) {
    std::vector<at::Tensor> part;
    for (const at::Tensor& of_group : o) part.push_back(block.of(of_group));
    const at::Tensor x1 = decoder.attn_out(layer, block.of(x), part);
    block.of(x).copy_(decoder.mlp_out(layer, x1, decoder.mlp_in(layer, x1)));
  }
}

}  // namespace

at::Tensor window_losses(const Decoder& decoder, const at::Tensor& window, Tokens block) {
  const at::NoGradGuard no_grad;
  const Sample sample = make_sample(window);
  const std::int64_t tokens = sample.tokens.numel();
  const std::vector<Slice> blocks = slices(tokens, block.value());
  at::Tensor x;
  for (const Slice& part : blocks) {
    const at::Tensor rows = decoder.embedding(part.of(sample.tokens), part.of(sample.positions));
    if (!x.defined()) x = at::empty({tokens, rows.size(1)}, rows.options());
    part.of(x).copy_(rows);
  }
  for (const auto layer : indices<model::LayerIndex>(static_cast<int>(decoder.shape().layers)))
    layer_forward(decoder, layer, blocks, sample.positions, x);
  at::Tensor losses = at::empty({tokens}, at::kFloat);
  for (const Slice& part : blocks) part.of(losses).copy_(decoder.token_losses(part.of(x), part.of(sample.targets)));
  return losses;
}

Evaluation evaluate(const Decoder& decoder, const corpus::Dataset& data, const EvaluationWindows& windows,
                    const std::function<bool(std::int64_t, std::int64_t)>& on_window) {
  const std::int64_t context = windows.context.value();
  std::int64_t of = (data.tokens() - 1) / context;
  if (windows.most > 0) of = std::min(of, windows.most);
  Evaluation result;
  result.by_position.resize(static_cast<std::size_t>(context));
  for (bool more = true; more && result.windows < of;) {
    const at::Tensor window = at::tensor(data.window(result.windows * context, context + 1), at::kLong);
    const at::Tensor losses = window_losses(decoder, window, windows.block);
    const auto* loss = losses.const_data_ptr<float>();
    for (double& sum : result.by_position) sum += *loss++;
    more = on_window(++result.windows, of);
  }
  for (double& sum : result.by_position) {
    sum /= static_cast<double>(result.windows);
    result.loss += sum / static_cast<double>(context);
  }
  return result;
}

}  // namespace memo::libtorch
