// A profile of a decoder with made-up but plausible times and transients: what the planner's tests plan for.
#pragma once

#include "memo/model/dataflow.h"
#include "memo/model/shape.h"
#include "memo/plan/profile.h"

namespace memo::plan {

struct SyntheticOptions {
  std::int64_t hidden = 512, layers = 4, heads = 8, kv_heads = 4, ffn = 1536;
  int groups = 1;
  std::int64_t context = 8192, block = 1024;
  double flops = 1e11;     // per second
  double bandwidth = 1e9;  // of the disk tier, each way
  Bytes capacity{std::int64_t{1} << 40};
  bool disk = true;
};

inline Profile synthetic_profile(const SyntheticOptions& options = {}) {
  using model::SegmentRole, model::TensorRole;
  model::Shape shape;
  shape.family = "llama";
  shape.hidden = options.hidden;
  shape.layers = options.layers;
  shape.heads = options.heads;
  shape.kv_heads = options.kv_heads;
  shape.head_dim = options.hidden / options.heads;
  shape.ffn = options.ffn;
  shape.vocab = 8192;

  Profile profile;
  profile.model = "synthetic";
  profile.device = "made up";
  profile.flow = model::decoder_dataflow(shape, 4, options.groups, Tokens(options.context), Tokens(options.block));
  model::Dataflow& flow = profile.flow;
  const ClassIndex rstd = flow.classes.end_index();
  flow.classes.push_back({"attn_in.saved0", TensorRole::saved, Bytes(4)});
  const auto saved = [&](SegmentRole segment, ClassIndex cls) {
    flow.segments[flow.find_segment(segment)].backward.reads.push_back({cls});
  };
  flow.segments[flow.find_segment(SegmentRole::attn_in)].forward.writes.push_back({rstd});
  saved(SegmentRole::attn_in, flow.find_class(TensorRole::hidden));
  saved(SegmentRole::attn_in, rstd);
  flow.segments[flow.find_segment(SegmentRole::attn_out)].backward.reads.push_back(
      {flow.find_class(TensorRole::attention_output), 0, false, true});
  saved(SegmentRole::mlp_in, flow.find_class(TensorRole::residual));
  saved(SegmentRole::mlp_out, flow.find_class(TensorRole::mlp_inner));

  const auto trace = [&](SegmentIndex segment, bool backward, Tokens tokens, double flop, std::int64_t transient) {
    Trace made{segment, backward, tokens, Seconds(flop * (backward ? 2 : 1) / options.flops), {}};
    made.requests = {{Bytes(transient), 0, 2}, {Bytes(transient / 2), 1, 3}};
    profile.traces.push_back(made);
  };
  const double h = static_cast<double>(options.hidden);
  std::vector<Tokens> sizes{flow.block_tokens(BlockIndex(0))};
  if (flow.block_tokens(flow.last_block()) != sizes[0]) sizes.push_back(flow.block_tokens(flow.last_block()));
  for (const SegmentIndex s : flow.segments.indices()) {
    const model::Segment& segment = flow.segments[s];
    if (segment.stage == model::Stage::wait) {
      profile.traces.push_back({s, false, flow.context, Seconds(0), {}});
      continue;
    }
    if (segment.stage == model::Stage::update) {
      profile.traces.push_back({s, false, flow.context, Seconds(1e-3), {}});
      continue;
    }
    if (segment.stage == model::Stage::core || segment.stage == model::Stage::optimizer) {
      const double n = static_cast<double>(options.context);
      for (bool backward : {false, true}) trace(s, backward, flow.context, 2 * n * n * h / options.groups, 1 << 20);
      if (segment.stage == model::Stage::core)
        for (const int blocks : flow.prefixes()) {
          const auto m = static_cast<double>(blocks * options.block);
          trace(s, false, Tokens(blocks * options.block), 2 * m * m * h / options.groups, 1 << 20);
        }
      continue;
    }
    for (Tokens tokens : sizes)
      for (bool backward : {false, true})
        trace(s, backward, tokens, 4 * h * h * static_cast<double>(tokens.value()),
              tokens.value() * options.hidden * 4);
  }
  profile.fixed = {{"weights", Bytes(40 << 20)}, {"gradients", Bytes(40 << 20)}, {"optimizer", Bytes(80 << 20)}};
  if (options.disk) {
    const BytesPerSecond rate(options.bandwidth);
    profile.tiers = {{"disk", options.capacity, rate, rate, rate, rate, 1.02, 4096}};
  }
  return profile;
}

}  // namespace memo::plan
