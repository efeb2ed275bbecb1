// A layer's saved bytes against a published formula, and the scaling of its times.
#include "memo/estimate/layer.h"

#include <gtest/gtest.h>

#include "setups.h"

namespace memo::estimate {
namespace {

// Korthikanti et al. (2022): 34 s b h bytes a layer, of which 2 are masks of dropout, which these models do not have;
// attention's own 5 a s^2 b are not there with a fused kernel. Tensor parallelism with sequences split divides all.
class Saved : public ::testing::TestWithParam<int> {};
TEST_P(Saved, IsWhatKorthikantiCounts) {
  const int tensor = GetParam();
  const Training setup = megatron("gpt-7b", tensor, 8192, Recompute::none);
  const Layer layer(setup);
  const model::Dataflow flow = layer.dataflow();
  double row = 0;
  for (const model::TensorRole role :
       {model::TensorRole::hidden, model::TensorRole::qkv, model::TensorRole::attention_output,
        model::TensorRole::residual, model::TensorRole::mlp_inner})
    row += static_cast<double>(flow.classes[flow.find_class(role)].row.value());
  for (const model::Segment& segment : flow.segments) row += layer.footprint(segment).saved;
  EXPECT_NEAR(row * tensor / 4096, 32, 0.01);
}
INSTANTIATE_TEST_SUITE_P(TensorDegrees, Saved, ::testing::Values(1, 2, 8));

TEST(LayerTime, TwoGpusTakeHalfOfTheProducts) {
  const Training one = megatron("gpt-7b", 1, 8192, Recompute::none), two = megatron("gpt-7b", 2, 8192, Recompute::none);
  const Layer alone(one), shared(two);
  const model::Dataflow flow = alone.dataflow();
  for (const model::Segment& segment : flow.segments)
    if (segment.stage == model::Stage::before || segment.stage == model::Stage::after) {
      const Split whole = alone.time(segment, false, Tokens(8192)), half = shared.time(segment, false, Tokens(8192));
      EXPECT_DOUBLE_EQ(half.matmul, whole.matmul / 2) << segment.name;
      EXPECT_EQ(whole.collective, 0) << segment.name;
      EXPECT_GT(half.collective, 0) << segment.name;
    }
}

TEST(LayerTime, AttentionOfAPrefixTakesTheSquare) {
  const Training setup = megatron("gpt-7b", 1, 1 << 20, Recompute::none);
  const Layer layer(setup);
  const model::Dataflow flow = layer.dataflow();
  const auto& core = flow.segments[flow.find_segment(model::SegmentRole::attention)];
  const double all = layer.time(core, false, Tokens(1 << 20)).attention;
  const double half = layer.time(core, false, Tokens(1 << 19)).attention;
  EXPECT_NEAR(half / all, 0.25, 0.001);
}

// By count, for Qwen3-8B's head: a tile reads and writes 8 bytes a weight of float32 gradients.
TEST(LossTile, IsABlockOfTheRunOnAGpu) {
  Training setup = megatron("qwen3-8b", 1, 131072, Recompute::full);
  setup.execution = Execution::blocks;
  setup.block = Tokens(16384);  // the planner's; a run has 8192
  const double rows = 8192, vocab = 151936, hidden = 4096;
  const Layer on_gpu(setup);
  EXPECT_EQ(on_gpu.loss_transients(setup.block).value(), std::int64_t(rows * (vocab + hidden) * 2));
  const model::Dataflow flow = on_gpu.dataflow();
  const model::Segment& loss = flow.segments[flow.find_segment(model::SegmentRole::loss)];
  const double a_token = 8 * vocab + 8 * vocab * hidden / rows;  // bytes
  EXPECT_NEAR(on_gpu.time(loss, false, Tokens(1024)).memory, memory_seconds(setup, 1024 * a_token), 1e-9);
  setup.hardware.sizes = {.gpu = false};
  EXPECT_EQ(Layer(setup).loss_transients(setup.block).value(), std::int64_t(64 * (vocab + hidden) * 2));
}

}  // namespace
}  // namespace memo::estimate
