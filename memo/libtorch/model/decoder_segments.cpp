// Maps segments of the table, by their names, to functions of the decoder.
#include "memo/libtorch/model/decoder_segments.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <algorithm>

#include "memo/base/check.h"

namespace memo::libtorch {
DecoderSegments::DecoderSegments(const model::Dataflow& flow, const Decoder& decoder, Update update)
    : groups_(flow.groups), decoder_(decoder), update_(std::move(update)) {
  static constexpr const char* names[] = {"embedding",    "attn_in",   "attention", "attn_out",
                                          "mlp_in",       "mlp_out",   "loss",      "update.before",
                                          "update.after", "optimizer", "wait"};
  for (const model::Segment& segment : flow.segments) {
    const auto* found = std::find(std::begin(names), std::end(names), segment.name);
    MEMO_CHECK(found != std::end(names), "a decoder's dataflow has the decoder's segments");
    kinds_.push_back(static_cast<Kind>(found - std::begin(names)));
  }
}

bool DecoderSegments::has_graph(int segment) const {
  const Kind k = kind(segment);
  return k == Kind::attn_in || k == Kind::attn_out || k == Kind::mlp_in || k == Kind::mlp_out;
}

std::vector<at::Tensor> DecoderSegments::forward(int segment, const Where& where, const std::vector<at::Tensor>& reads,
                                                 Graph* graph) {
  const at::AutoGradMode grad(has_graph(segment));
  Graph scratch;
  Graph& kept = graph ? *graph : scratch;
  std::vector<at::Tensor> out;
  switch (kind(segment)) {
    case Kind::embedding:
      return {decoder_.embedding(where.tokens, where.positions)};
    case Kind::attn_in:
      out = decoder_.attn_in(where.layer, leaf(reads[0], kept), where.positions);
      break;
    case Kind::attention: {
      auto [o, lse] = decoder_.attention(reads[0], where.document_starts);
      return {o, lse};
    }
    case Kind::attn_out: {
      std::vector<at::Tensor> o;
      for (std::size_t g = 1; g < reads.size(); ++g) o.push_back(leaf(reads[g], kept));
      out = {decoder_.attn_out(where.layer, reads[0], o)};
      break;
    }
    case Kind::mlp_in:
      out = {decoder_.mlp_in(where.layer, leaf(reads[0], kept))};
      break;
    case Kind::mlp_out:
      out = {decoder_.mlp_out(where.layer, reads[0], leaf(reads[1], kept))};
      break;
    case Kind::loss:
      return {decoder_.loss(reads[0], where.targets, loss_scale, loss_sum)};
    case Kind::update_before:
      update_({where.layer, model::Stage::before});
      return {};
    case Kind::update_after:
      update_({where.layer, model::Stage::after});
      return {};
    case Kind::optimizer:
      update_({});
      return {};
    case Kind::wait:
      return {};
  }
  keep_roots(out, kept);
  return detached(out);
}

std::vector<at::Tensor> DecoderSegments::backward(int segment, const Where& where, const std::vector<at::Tensor>& reads,
                                                  Graph& graph) {
  const at::AutoGradMode no_grad(false);
  const auto groups = static_cast<std::size_t>(groups_);
  switch (kind(segment)) {
    case Kind::embedding:
      decoder_.embedding_backward(where.tokens, where.positions, reads[0]);
      return {};
    case Kind::attn_in: {  // reads dq, dk, dv of every group, d1
      std::vector<at::Tensor> d_qkv;
      for (std::size_t g = 0; g < groups; ++g)
        d_qkv.push_back(at::cat({reads[g], reads[groups + g], reads[2 * groups + g]}, 1));
      at::Tensor d = gradients(graph, d_qkv)[0];
      return {d.add_(reads[3 * groups])};
    }
    case Kind::attention: {
      auto [dq, dk, dv] = decoder_.attention_backward(reads[0], reads[1], reads[2], reads[3], where.document_starts);
      return {dq, dk, dv};
    }
    case Kind::attn_out:
      return gradients(graph, {reads[0]});
    case Kind::mlp_in: {  // reads dh, d of the layer above
      at::Tensor d1 = gradients(graph, {reads[0]})[0];
      return {d1.add_(reads[1])};
    }
    case Kind::mlp_out:
      return gradients(graph, {reads[0]});
    default:
      break;
  }
  MEMO_CHECK(false, "a backward call is of a segment that has one");
}

}  // namespace memo::libtorch
