// A plan small enough to read: one layer, two token blocks (2 and 1 tokens), two head groups. Written by hand, so that
// tests do not ask the planner what a good plan is. Each way of placing a tensor occurs once:
//   x of block 0 is swapped, x of block 1 kept; q is recomputed; s is recomputed for block 0 and kept for block 1,
//   whose rerun therefore writes s a second time, into a residency that nobody reads.
#pragma once

#include <cstddef>
#include <vector>

#include "memo/plan/plan.h"

namespace memo::plan {

inline constexpr ClassIndex tiny_x(0), tiny_q(1), tiny_o(2), tiny_s(3), tiny_h(4), tiny_d(5), tiny_d1(6), tiny_do(7),
    tiny_dq(8);
inline constexpr SegmentIndex tiny_embedding(0), tiny_before(1), tiny_core(2), tiny_after(3), tiny_loss(4),
    tiny_optimizer(5);

inline model::Dataflow tiny_flow() {
  using model::SegmentRole, model::Stage, model::TensorRole;
  const auto block = [](ClassIndex cls, int shift = 0) { return model::Use{cls, shift, false, false}; };
  const auto groups = [](ClassIndex cls) { return model::Use{cls, 0, false, true}; };
  const auto sequence = [](ClassIndex cls) { return model::Use{cls, 0, true, false}; };
  model::Dataflow flow;
  flow.layers = 1;
  flow.groups = 2;
  flow.context = Tokens(3);
  flow.block = Tokens(2);
  flow.classes = {{"x", TensorRole::hidden, Bytes(48)},
                  {"q", TensorRole::other, Bytes(32), true, true},
                  {"o", TensorRole::attention_output, Bytes(32), true, true},
                  {"s", TensorRole::other, Bytes(16)},
                  {"h", TensorRole::mlp_inner, Bytes(40)},
                  {"d", TensorRole::d_hidden, Bytes(48)},
                  {"d1", TensorRole::d_residual, Bytes(48)},
                  {"do", TensorRole::d_attention_output, Bytes(32), true, true},
                  {"dq", TensorRole::d_query, Bytes(32), true, true}};
  flow.segments = {
      {"embedding", SegmentRole::embedding, Stage::embedding, {{}, {block(tiny_x)}}, {{block(tiny_d)}, {}}},
      {"before",
       SegmentRole::before,
       Stage::before,
       {{block(tiny_x)}, {groups(tiny_q), block(tiny_s)}},
       {{block(tiny_x), block(tiny_s), groups(tiny_dq), block(tiny_d1)}, {block(tiny_d)}}},
      {"core",
       SegmentRole::other,
       Stage::core,
       {{sequence(tiny_q)}, {sequence(tiny_o)}},
       {{sequence(tiny_do), sequence(tiny_q)}, {sequence(tiny_dq)}}},
      {"after",
       SegmentRole::after,
       Stage::after,
       {{block(tiny_x), groups(tiny_o)}, {block(tiny_h), block(tiny_x, 1)}},
       {{block(tiny_d, 1), block(tiny_h)}, {groups(tiny_do), block(tiny_d1)}}},
      {"loss", SegmentRole::loss, Stage::loss, {{block(tiny_x, 1)}, {block(tiny_d, 1)}}, {}},
      {"optimizer", SegmentRole::optimizer, Stage::optimizer, {}, {}},
  };
  return flow;
}

inline Profile tiny_profile() {
  Profile profile;
  profile.model = "tiny, by hand";
  profile.device = "paper";
  profile.flow = tiny_flow();
  for (const auto& [segment, backward] : std::vector<std::pair<SegmentIndex, bool>>{{tiny_embedding, false},
                                                                                    {tiny_embedding, true},
                                                                                    {tiny_before, false},
                                                                                    {tiny_before, true},
                                                                                    {tiny_after, false},
                                                                                    {tiny_after, true},
                                                                                    {tiny_loss, false}})
    for (const int tokens : {2, 1}) profile.traces.push_back({segment, backward, Tokens(tokens), Seconds(0.1), {}});
  profile.traces.push_back({tiny_core, false, Tokens(3), Seconds(0.3), {}});
  profile.traces.push_back({tiny_core, true, Tokens(3), Seconds(0.7), {}});
  profile.traces.push_back({tiny_optimizer, false, Tokens(3), Seconds(1.0 / 3), {}});
  // before, forward, 2 tokens: two transients alive together, the output s, a third transient after the first died.
  profile.traces[TraceIndex(4)].requests = {
      {Bytes(128), 0, 3}, {Bytes(60), 1, 5}, {Bytes(32), 2, 0, tiny_s}, {Bytes(64), 4, 6}};
  profile.fixed = {{"weights", Bytes(256)}, {"optimizer", Bytes(120)}};
  profile.tiers = {{"host", Bytes(8192), BytesPerSecond(1e9), BytesPerSecond(1.1e9), BytesPerSecond(0.7e9),
                    BytesPerSecond(0.8e9), 1.05, 64}};
  return profile;
}

inline TraceIndex tiny_trace(const Profile& profile, SegmentIndex segment, bool backward, int tokens) {
  for (const TraceIndex i : profile.traces.indices())
    if (profile.traces[i].segment == segment && profile.traces[i].backward == backward &&
        profile.traces[i].tokens == Tokens(tokens))
      return i;
  return TraceIndex::none();
}

inline Plan tiny_plan() {
  constexpr Phase forward = Phase::forward, backward = Phase::backward, rerun = Phase::rerun;
  Plan plan;
  plan.strategy = "memo";
  plan.device_limit = Bytes(8192);
  plan.profile = tiny_profile();
  constexpr LayerIndex layer(0);
  plan.placement = {{tiny_x, layer, 0, 1, 1, 0}, {tiny_q, layer, 2, 0, 0, 0}, {tiny_s, layer, 1, 0, 1, 0}};

  Program& program = plan.program;
  program.arena = Bytes(5952);
  program.fixed = {{Bytes(0), Bytes(256)}, {Bytes(256), Bytes(128)}};
  program.transients.resize(plan.profile.traces.size());
  program.transients[TraceIndex(4)] = {Bytes(192), {0, 128, -1, 0}};

  struct Row {  // block or group, -1 for neither
    SegmentIndex segment;
    Phase phase;
    int block, group;
  };
  for (const Row& row : std::vector<Row>{
           {tiny_embedding, forward, 0, -1},   // 0
           {tiny_before, forward, 0, -1},      // 1
           {tiny_embedding, forward, 1, -1},   // 2
           {tiny_before, forward, 1, -1},      // 3
           {tiny_core, forward, -1, 0},        // 4
           {tiny_core, forward, -1, 1},        // 5
           {tiny_after, forward, 0, -1},       // 6
           {tiny_loss, forward, 0, -1},        // 7
           {tiny_after, backward, 0, -1},      // 8
           {tiny_after, forward, 1, -1},       // 9
           {tiny_loss, forward, 1, -1},        // 10
           {tiny_after, backward, 1, -1},      // 11
           {tiny_before, rerun, 0, -1},        // 12
           {tiny_before, rerun, 1, -1},        // 13
           {tiny_core, backward, -1, 0},       // 14
           {tiny_core, backward, -1, 1},       // 15
           {tiny_before, backward, 1, -1},     // 16
           {tiny_embedding, backward, 1, -1},  // 17
           {tiny_before, backward, 0, -1},     // 18
           {tiny_embedding, backward, 0, -1},  // 19
           {tiny_optimizer, forward, -1, -1},  // 20
       }) {
    const int tokens = row.block < 0 ? 3 : row.block == 0 ? 2 : 1;
    const TraceIndex trace = tiny_trace(plan.profile, row.segment, row.phase == backward, tokens);
    program.calls.push_back({row.segment, row.phase, layer, BlockIndex(row.block), row.group, trace, Bytes(384)});
  }

  struct Lies {  // a residency: tensor, boundaries, offset
    ClassIndex cls;
    int layer, block, group, begin, end, offset;
    Origin origin = Origin::produced;
  };
  for (const Lies& r : std::vector<Lies>{
           {tiny_x, 0, 0, 0, 0, 7, 1856},                    // 0, copied out: owns whole units, 4096 bytes
           {tiny_x, 0, 0, 0, 9, 19, 1856, Origin::fetched},  // 1
           {tiny_x, 0, 1, 0, 2, 17, 768},                    // 2
           {tiny_q, 0, 0, 0, 1, 5, 832},                     // 3
           {tiny_q, 0, 1, 0, 3, 5, 896},                     // 4
           {tiny_q, 0, 0, 1, 1, 6, 928},                     // 5
           {tiny_q, 0, 1, 1, 3, 6, 992},                     // 6
           {tiny_o, 0, 0, 0, 4, 7, 1024},                    // 7
           {tiny_o, 0, 1, 0, 4, 10, 1088},                   // 8
           {tiny_o, 0, 0, 1, 5, 7, 1120},                    // 9
           {tiny_o, 0, 1, 1, 5, 10, 1184},                   // 10
           {tiny_s, 0, 0, 0, 1, 2, 1216},                    // 11
           {tiny_s, 0, 0, 0, 12, 19, 1216},                  // 12
           {tiny_s, 0, 1, 0, 3, 17, 1248},                   // 13
           {tiny_s, 0, 1, 0, 13, 14, 1264},                  // 14, written by the rerun, read by nobody
           {tiny_h, 0, 0, 0, 6, 9, 1280},                    // 15
           {tiny_h, 0, 1, 0, 9, 12, 1280},                   // 16
           {tiny_x, 1, 0, 0, 6, 8, 1408},                    // 17
           {tiny_x, 1, 1, 0, 9, 11, 1408},                   // 18
           {tiny_d, 1, 0, 0, 7, 9, 1536},                    // 19
           {tiny_d, 1, 1, 0, 10, 12, 1536},                  // 20
           {tiny_d1, 0, 0, 0, 8, 19, 1664},                  // 21
           {tiny_d1, 0, 1, 0, 11, 17, 1792},                 // 22
           {tiny_do, 0, 0, 0, 8, 15, 1024},                  // 23
           {tiny_do, 0, 1, 0, 11, 15, 1088},                 // 24
           {tiny_do, 0, 0, 1, 8, 16, 1120},                  // 25
           {tiny_do, 0, 1, 1, 11, 16, 1184},                 // 26
           {tiny_q, 0, 0, 0, 12, 15, 832},                   // 27
           {tiny_q, 0, 1, 0, 13, 15, 896},                   // 28
           {tiny_q, 0, 0, 1, 12, 16, 928},                   // 29
           {tiny_q, 0, 1, 1, 13, 16, 992},                   // 30
           {tiny_dq, 0, 0, 0, 14, 19, 1280},                 // 31
           {tiny_dq, 0, 1, 0, 14, 17, 1344},                 // 32
           {tiny_dq, 0, 0, 1, 15, 19, 1408},                 // 33
           {tiny_dq, 0, 1, 1, 15, 17, 1472},                 // 34
           {tiny_d, 0, 1, 0, 16, 18, 1536},                  // 35
           {tiny_d, 0, 0, 0, 18, 20, 1536},                  // 36
       }) {
    TensorIndex tensor;
    for (; tensor < program.tensors.end_index(); ++tensor) {
      const Tensor& t = program.tensors[tensor];
      if (t.cls == r.cls && t.layer == LayerIndex(r.layer) && t.block == BlockIndex(r.block) && t.group == r.group)
        break;
    }
    if (tensor == program.tensors.end_index()) {
      const std::int64_t row = plan.profile.flow.classes[r.cls].row.value();
      program.tensors.push_back(
          {r.cls, LayerIndex(r.layer), BlockIndex(r.block), r.group, Bytes(row * (r.block == 0 ? 2 : 1))});
    }
    program.residencies.push_back({tensor, Boundary(r.begin), Boundary(r.end), Bytes(r.offset), r.origin});
  }
  program.copies = {{ResidencyIndex(0), Direction::out, 0, Bytes(0), Boundary(1), Boundary(7)},
                    {ResidencyIndex(1), Direction::in, 0, Bytes(0), Boundary(9), Boundary(12)}};
  program.tier_bytes = {Bytes(4096)};
  plan.predicted = {Bytes(5952), Bytes(5600), Seconds(2.5), Seconds(0.1), Seconds(2.2), Bytes(96), Bytes(96), 1e-3};
  return plan;
}

}  // namespace memo::plan
