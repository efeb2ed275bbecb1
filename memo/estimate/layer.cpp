// Sizes and times by the formulas of a layer's operations.
#include "memo/estimate/layer.h"

#include <algorithm>

namespace memo::estimate {
namespace {

using model::SegmentRole;
using model::Stage;
using model::TensorRole;

std::int64_t largest_divisor(std::int64_t of, std::int64_t at_most) {
  std::int64_t divisor = std::max<std::int64_t>(1, std::min(of, at_most));
  while (of % divisor != 0) --divisor;
  return divisor;
}

bool gated(const model::Shape& shape) { return shape.activation == model::Activation::silu; }

}  // namespace

Layer::Layer(const Setup& setup) : setup_(setup), tensor_(setup.degrees.tensor), element_(setup.element_bytes) {
  const model::Shape& shape = setup.shape;
  const std::int64_t keys = std::max<std::int64_t>(1, shape.kv_heads / tensor_);
  // Memo runs attention by head groups, each with a key head for every rank of the sequence; eight groups are enough.
  constexpr std::int64_t most_groups = 8;
  const std::int64_t ranks = std::min<std::int64_t>(keys, setup.degrees.ulysses);
  if (setup.groups > 0)
    groups_ = setup.groups;
  else if (setup.execution == Execution::blocks)
    groups_ = static_cast<int>(largest_divisor(keys, std::min(most_groups, keys / ranks)));
  hidden_ = static_cast<double>(shape.hidden);
  vocab_ = static_cast<double>(shape.vocab) / tensor_;
  ffn_ = static_cast<double>(shape.ffn) / tensor_;
  inner_ = ffn_ * (gated(shape) ? 2 : 1);
  query_ = static_cast<double>(shape.heads * shape.head_dim) / tensor_;
  key_ = static_cast<double>(keys * shape.head_dim);
  rows_of_ = setup.degrees.sequence ? 1.0 / tensor_ : 1.0;
  before_parameters_ = hidden_ * (query_ + 2 * key_) + hidden_;
  after_parameters_ = query_ * hidden_ + hidden_ * inner_ + ffn_ * hidden_ + hidden_;
  const double positions = shape.position == model::Position::learned ? static_cast<double>(setup.context.value()) : 0;
  const double tables = setup.degrees.pipeline > 1 || shape.tied ? 1 : 2;  // each end of a pipeline holds one table
  other_parameters_ = hidden_ * (tables * vocab_ + positions) + hidden_;
}

model::Dataflow Layer::dataflow() const {
  model::Shape local = setup_.shape;
  local.heads /= tensor_;
  local.kv_heads = std::max<std::int64_t>(1, local.kv_heads / tensor_);
  local.ffn /= tensor_;
  local.layers /= setup_.degrees.pipeline;
  const Tokens tokens = setup_.local_tokens();
  const bool whole = setup_.execution != Execution::blocks && !setup_.by_alpha();
  const Tokens block = whole ? tokens : std::min(setup_.block, tokens);
  model::Dataflow flow = model::decoder_dataflow(local, setup_.element_bytes, groups_, tokens, block);
  const auto shrink = [&](std::initializer_list<TensorRole> roles, double by) {
    for (const TensorRole role : roles) {
      Bytes& row = flow.classes[flow.find_class(role)].row;
      row = Bytes(std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(row.value()) * by)));
    }
  };
  shrink({TensorRole::hidden, TensorRole::residual, TensorRole::d_hidden, TensorRole::d_residual}, rows_of_);
  if (setup_.tiled_mlp) shrink({TensorRole::mlp_inner, TensorRole::d_mlp_inner}, 0);  // only a tile of it ever exists
  if (setup_.recompute == Recompute::selective)
    shrink({TensorRole::qkv, TensorRole::residual, TensorRole::mlp_inner}, 0.5);
  if (setup_.host_updates) model::add_host_updates(flow);
  return flow;
}

bool Layer::eager_norm() const { return setup_.execution == Execution::eager && setup_.shape.norm == model::Norm::rms; }

// Memo's own segments save only their inputs; these are the buffers of memo/libtorch/model/functions.cpp.
Footprint Layer::block_footprint(const model::Segment& segment) const {
  const double row = hidden_ * element_ * rows_of_, gathered = tensor_ > 1 ? hidden_ * element_ : 0;
  const double heads = (query_ + 2 * key_) * element_;
  if (segment.role == SegmentRole::attn_in) return {0, row + heads + gathered, row + 2 * heads + 2 * gathered};
  if (segment.role == SegmentRole::attn_out) return {0, query_ * element_ + gathered, gathered};
  if (segment.role == SegmentRole::mlp_in) return {0, row + gathered, row + 2 * gathered};
  if (segment.role == SegmentRole::mlp_out) return {0, ffn_ * element_ + gathered, ffn_ * element_ + gathered};
  return {};
}

Footprint Layer::footprint(const model::Segment& segment) const {
  if (segment.stage == Stage::core) {
    const double moved = setup_.degrees.ulysses > 1 ? (query_ + 2 * key_) * element_ : 0;
    const double ring = setup_.degrees.ring > 1 ? 4 * key_ * element_ : 0;
    const double summed = element_ < 4 ? query_ * 4 : 0;  // dq, in float32
    return {0, (moved + ring) / groups_, (2 * moved + 2 * ring + summed) / groups_};
  }
  if (setup_.execution == Execution::blocks) return block_footprint(segment);
  const bool eager = setup_.execution == Execution::eager;
  const double row = hidden_ * element_ * rows_of_, gathered = tensor_ > 1 ? hidden_ * element_ : 0;
  // A product saves its input, the norm's output. An eager norm also saves a float32 copy and the normalised input.
  const double copies = eager_norm() ? 4 : 1;
  const double norm = setup_.recompute != Recompute::selective ? row * copies : 0;
  const double forward = row * copies + gathered, backward = row * (eager_norm() ? 5 : 2) + 2 * gathered;
  if (segment.role == SegmentRole::attn_in) {
    // The table lets a layer's first segment run again before the next layer's is done; whole modules do not.
    if (setup_.recompute == Recompute::full) return {0, forward, backward + norm};
    return {norm, forward, backward};
  }
  if (segment.role == SegmentRole::attn_out) return {0, gathered, row + gathered};
  if (segment.role == SegmentRole::mlp_in) return {setup_.tiled_mlp ? row : norm, forward, backward};
  if (segment.role == SegmentRole::mlp_out) {
    if (setup_.tiled_mlp) return {0, gathered, gathered};
    const bool two = eager && gated(setup_.shape);  // the activation, and its product with the other half
    const double kept = norm > 0 ? ffn_ * element_ * (two ? 2 : 1) : 0;
    const double again = setup_.recompute == Recompute::selective ? inner_ * element_ / 2 : 0;
    return {kept, ffn_ * element_ + gathered, ffn_ * element_ + again + gathered};
  }
  return {};
}

// A run's blocks are those of its device, where setup_.block may be larger for the planner's sake.
Tokens Layer::run_block() const {
  return std::min(setup_.block, setup_.hardware.sizes.blocks(setup_.local_tokens()).back());
}

double Layer::loss_tile() const {
  if (setup_.loss_tile > Tokens(0)) return static_cast<double>(setup_.loss_tile.value());
  const Bytes row(static_cast<std::int64_t>(vocab_ * element_));
  return static_cast<double>(setup_.hardware.sizes.loss_tile(run_block(), row).value());
}

Bytes Layer::loss_transients(Tokens tokens) const {
  const double all = static_cast<double>(tokens.value());
  if (setup_.execution == Execution::blocks)  // of a tile: logits, which become their gradient, and normed rows
    return Bytes(static_cast<std::int64_t>(std::min(loss_tile(), all) * (vocab_ + hidden_) * element_));
  constexpr double tile = 1024;  // rows
  const double rows = setup_.tiled_loss ? std::min(tile, all) : all;
  return Bytes(static_cast<std::int64_t>(rows * vocab_ * setup_.logit_bytes));
}

// Bytes a token by which each `rows` tokens read and write the float32 gradient of weights. A measured rate of products
// (of this machine) has it within.
double Layer::gradient_traffic(double parameters, double rows) const {
  return setup_.execution == Execution::blocks && setup_.hardware.sizes.gpu ? 8 * parameters / rows : 0;
}

Split Layer::core_time(bool backward, Tokens tokens) const {
  const Degrees& d = setup_.degrees;
  const auto local = static_cast<double>(setup_.local_tokens().value());
  const double share = static_cast<double>(tokens.value()) / local;  // part of the sequence, from its beginning
  const auto context = static_cast<double>(setup_.context.value());
  const double pairs = context * context / (setup_.whole_square ? 1 : 2) * setup_.sequences / d.sequence_parts();
  Split split;
  // Two products forward, five backward, of 2 FLOPs a pair and column.
  const double flops = (backward ? 10 : 4) * pairs * query_ * share * share / groups_;
  split.attention = attention_seconds(setup_, flops, context / d.ring * share, backward);
  const double sent = local * (2 * query_ + 2 * key_) * element_ * share / groups_;
  split.collective = all_to_all_seconds(setup_, sent, d.ulysses, d.tensor);
  if (d.ring > 1) {  // keys and values travel during attention, in backward with their gradients
    const double hop =
        send_seconds(setup_, local * 2 * key_ * element_ * (backward ? 2 : 1) / groups_, d.ring, d.tensor * d.ulysses);
    split.collective += std::max(0.0, hop * (d.ring - 1) - split.attention);
    // Each hop's part is added to a float32 sum: of the output, in backward of dq, dk and dv.
    const double merged = local * (backward ? query_ + 2 * key_ : query_) * (4 + 4 + 2) / groups_;
    split.memory += memory_seconds(setup_, merged * (d.ring - 1) * share);
  }
  split.collective += gather_left(backward) * share / groups_;
  return split;
}

// Time to gather and scatter a layer's weights and gradients, beyond the layer's own time, which hides the rest.
double Layer::gather_left(bool backward) const {
  if (setup_.shard != Shard::weights || setup_.shards() <= 1) return 0;
  const double gather = all_gather_seconds(setup_, layer_parameters() * element_, setup_.shards(), tensor_);
  const double from_host =
      setup_.offload_weights ? layer_parameters() * element_ / setup_.hardware.host.read.value() : 0;
  const double gradient = setup_.state == State::pure || setup_.state == State::zero ? 2 : 4;
  const double scatter = all_gather_seconds(setup_, layer_parameters() * gradient, setup_.shards(), tensor_);
  const auto rows = static_cast<double>(setup_.local_tokens().value());
  const double products = matmul_seconds(setup_, 2 * layer_parameters() * rows, rows) * (backward ? 2 : 1);
  const bool gathers = !backward || setup_.recompute != Recompute::full;
  return std::max(0.0, (gathers ? gather + from_host : 0) + (backward ? scatter : 0) - products);
}

Split Layer::update_time(const model::Segment& segment) const {
  if (!setup_.as_run()) return {};  // Modelled::once_a_step has it
  const bool before = segment.role == SegmentRole::update_before || segment.role == SegmentRole::host_update_before;
  const double parameters = segment.stage == Stage::optimizer ? other_parameters_
                            : before                          ? before_parameters_
                                                              : after_parameters_;
  if (segment.stage == Stage::host_update) return {0, 0, host_update_seconds(setup_, parameters), 0};
  return {0, 0, update_seconds(setup_, parameters), 0};
}

Split Layer::time(const model::Segment& segment, bool backward, Tokens tokens) const {
  if (segment.stage == Stage::core) return core_time(backward, tokens);
  const auto n = static_cast<double>(tokens.value());
  const bool eager = setup_.execution == Execution::eager;
  const double row = hidden_ * element_ * rows_of_;
  // Bytes of element-wise work; a norm in float32, kernel by kernel, moves its input fourteen times.
  const double norm = row * (eager_norm() ? 14 : 2), residual = row * 3;
  const double rotary =
      setup_.shape.position == model::Position::rope ? (query_ + key_) * element_ * (eager ? 8 : 2) : 0;
  double weights = 0, bytes = 0, gathers = 0;
  Split split;
  if (segment.role == SegmentRole::attn_in) weights = hidden_ * (query_ + 2 * key_), bytes = norm + rotary, gathers = 1;
  if (segment.role == SegmentRole::attn_out) weights = query_ * hidden_, bytes = residual, gathers = backward ? 0.5 : 1;
  if (segment.role == SegmentRole::mlp_in) weights = hidden_ * inner_, bytes = norm, gathers = 1;
  if (segment.role == SegmentRole::mlp_out)
    weights = ffn_ * hidden_, bytes = residual + (inner_ + ffn_) * element_ * (eager ? 1.7 : 1),
    gathers = backward ? 0.5 : 1;
  if (segment.stage == Stage::loss) {
    if (backward) return split;
    Setup plain = setup_;
    plain.fp8 = false;
    split.matmul = matmul_seconds(plain, 6 * n * hidden_ * vocab_, n);
    // Whole logits: each copy is written and read. In place: read for the maximum, the sum and the gradient, and
    // written.
    const double logits = vocab_ * (setup_.execution == Execution::blocks ? 4 * element_ : 3 * setup_.logit_bytes);
    split.memory = memory_seconds(setup_, n * (logits + gradient_traffic(hidden_ * vocab_, loss_tile())));
    return split;
  }
  if (segment.stage == Stage::embedding) return {0, 0, memory_seconds(setup_, n * row * 2), 0};
  if (model::changes_parameters(segment.stage)) return update_time(segment);
  split.matmul = matmul_seconds(setup_, (backward ? 4 : 2) * n * weights, n);
  if (backward) bytes = 2 * bytes + gradient_traffic(weights, static_cast<double>(run_block().value()));
  split.memory = memory_seconds(setup_, n * bytes);
  split.collective = all_gather_seconds(setup_, n * hidden_ * element_, tensor_, 1) * gathers * (backward ? 2 : 1);
  return split;
}

}  // namespace memo::estimate
