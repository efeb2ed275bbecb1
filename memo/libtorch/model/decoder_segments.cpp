// Maps segments of the table, by their names, to functions of the decoder.
#include "memo/libtorch/model/decoder_segments.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include "memo/base/check.h"
#include "memo/libtorch/kernels/attention_mask.h"

namespace memo::libtorch {

using model::SegmentRole;

DecoderSegments::DecoderSegments(const model::Dataflow& flow, const Decoder& decoder, Update update, at::Device device)
    : loss_sum(LossSum::on(device)), flow_(flow), decoder_(decoder), update_(std::move(update)) {
  for (const model::Segment& segment : flow.segments)
    MEMO_CHECK(segment.role <= SegmentRole::host_update_after, "a decoder's dataflow has the decoder's segments");
}

// Whether a backward call of the segment follows autograd's graph.
bool DecoderSegments::has_graph(model::SegmentIndex segment) const {
  const SegmentRole r = role(segment);
  return r == SegmentRole::attn_in || r == SegmentRole::attn_out || r == SegmentRole::mlp_in ||
         r == SegmentRole::mlp_out;
}

std::vector<at::Tensor> DecoderSegments::forward(model::SegmentIndex segment, const Where& where,
                                                 const std::vector<at::Tensor>& reads, Graph* graph) {
  const at::AutoGradMode grad(has_graph(segment));
  Graph scratch;
  Graph& kept = graph ? *graph : scratch;
  std::vector<at::Tensor> out;
  switch (role(segment)) {
    case SegmentRole::embedding:
      return {decoder_.embedding(where.tokens, where.positions)};
    case SegmentRole::attn_in:
      out = decoder_.attn_in(where.layer, leaf(reads[0], kept), where.positions);
      break;
    case SegmentRole::attention: {
      auto [o, lse] = decoder_.attention(reads[0], where.document_starts);
      return {o, lse};
    }
    case SegmentRole::attn_out: {
      std::vector<at::Tensor> o;
      for (std::size_t g = 1; g < reads.size(); ++g) o.push_back(leaf(reads[g], kept));
      out = {decoder_.attn_out(where.layer, reads[0], o)};
      break;
    }
    case SegmentRole::mlp_in:
      out = {decoder_.mlp_in(where.layer, leaf(reads[0], kept))};
      break;
    case SegmentRole::mlp_out:
      out = {decoder_.mlp_out(where.layer, reads[0], leaf(reads[1], kept))};
      break;
    case SegmentRole::loss:
      return {decoder_.loss(reads[0], where.targets, loss_scale, loss_sum)};
    case SegmentRole::update_before:
    case SegmentRole::host_update_before:
      update_({where.layer, model::Stage::before}, role(segment) == SegmentRole::host_update_before);
      return {};
    case SegmentRole::update_after:
    case SegmentRole::host_update_after:
      update_({where.layer, model::Stage::after}, role(segment) == SegmentRole::host_update_after);
      return {};
    case SegmentRole::optimizer:
      update_({}, false);
      return {};
    case SegmentRole::wait:
      return {};
    default:
      break;
  }
  keep_roots(out, kept);
  return detached(out);
}

std::vector<at::Tensor> DecoderSegments::backward(model::SegmentIndex segment, const Where& where,
                                                  const std::vector<at::Tensor>& reads, Graph& graph) {
  const at::AutoGradMode no_grad(false);
  const std::size_t groups = at(flow_.groups);
  switch (role(segment)) {
    case SegmentRole::embedding:
      decoder_.embedding_backward(where.tokens, where.positions, reads[0]);
      return {};
    case SegmentRole::attn_in: {  // reads dq, dk, dv of every group, d1
      std::vector<at::Tensor> d_qkv;
      for (std::size_t g = 0; g < groups; ++g)
        d_qkv.push_back(at::cat({reads[g], reads[groups + g], reads[2 * groups + g]}, 1));
      at::Tensor d = gradients(graph, d_qkv)[0];
      return {d.add_(reads[3 * groups])};
    }
    case SegmentRole::attention: {
      auto [dq, dk, dv] = decoder_.attention_backward(reads[0], reads[1], reads[2], reads[3], where.document_starts,
                                                      flow_.context.value() > longest_in_order);
      return {dq, dk, dv};
    }
    case SegmentRole::attn_out:
      return gradients(graph, {reads[0]});
    case SegmentRole::mlp_in: {  // reads dh, d of the layer above
      at::Tensor d1 = gradients(graph, {reads[0]})[0];
      return {d1.add_(reads[1])};
    }
    case SegmentRole::mlp_out:
      return gradients(graph, {reads[0]});
    default:
      break;
  }
  MEMO_CHECK(false, "a backward call is of a segment that has one");
}

}  // namespace memo::libtorch
