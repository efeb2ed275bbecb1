// The decoder, run block by block and in head groups, against a plain composition of ATen's operators in float64 under
// autograd; what segments save and allocate; the same bits on every run.
#include "memo/libtorch/model/decoder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/saved_tensors.h"
#include "parity_step.h"
#include "plain_model.h"

namespace memo::libtorch {
namespace {

constexpr model::LayerIndex first_layer(0);

model::Shape tiny(const std::string& family) {
  model::Shape s = (*model::find_family(family, "test"))->defaults;
  s.hidden = 48;
  s.layers = 2;
  s.heads = 4;
  s.kv_heads = family == "gpt2" ? 4 : 2;
  s.head_dim = 12;
  s.ffn = 40;
  s.vocab = 50;
  s.max_positions = 64;
  return s;
}

model::Shape with_everything() {  // no family has all, the decoder may
  model::Shape s = tiny("qwen3");
  s.qkv_bias = s.out_bias = s.mlp_bias = s.tied = true;
  s.rope_scaling = model::Llama3Rope{4, 1, 4, 32};
  return s;
}

Tensors random_values(const model::Shape& shape, at::ScalarType dtype) {
  at::manual_seed(5);
  Tensors values;
  for (const model::ParameterSpec& spec : model::parameters(shape))
    values.push_back((at::randn(spec.shape) * 0.2 + (spec.init == model::Init::one ? 1.0 : 0.0)).to(dtype));
  return values;
}

at::Tensor random_window(const model::Shape& shape, std::int64_t context) {
  at::manual_seed(6);
  return at::randint(shape.vocab, {context + 1}, at::kLong);
}

void expect_plain(const model::Shape& shape, at::ScalarType dtype, int groups, std::int64_t block, double tolerance) {
  const std::int64_t context = 53;  // no multiple of the blocks
  const auto specs = model::parameters(shape);
  const Tensors values = random_values(shape, dtype);
  const at::Tensor window = random_window(shape, context);
  std::map<std::string, at::Tensor> plain;
  Tensors leaves;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    leaves.push_back(as_leaf(values[i].to(at::kDouble)));
    plain[specs[i].name] = leaves.back();
  }
  const at::Tensor loss = plain_loss(shape, plain, window);
  const Tensors wanted = torch::autograd::grad({loss}, leaves);

  const std::vector<Parameter> parameters = with_gradients(specs, values);
  const StepOutcome outcome = run_step(Decoder(shape, groups, parameters), window, block);
  EXPECT_NEAR(outcome.loss, loss.item<double>(), tolerance * loss.item<double>());
  for (std::size_t i = 0; i < specs.size(); ++i)
    EXPECT_LT(relative_error(parameters[i].gradient, wanted[i]), tolerance) << specs[i].name;
}

TEST(Decoder, LossAndGradientsAreThoseOfAPlainComposition) {
  for (const std::string family : {"gpt2", "llama", "mistral", "qwen2", "qwen3"}) {
    for (const auto& [groups, block] : {std::pair{1, 53}, {2, 16}, {1, 7}}) {
      SCOPED_TRACE(testing::Message() << family << ", " << groups << " groups, block " << block);
      expect_plain(tiny(family), at::kFloat, groups, block, 5e-6);
    }
  }
}

TEST(Decoder, AllFeaturesTogether) { expect_plain(with_everything(), at::kFloat, 2, 10, 5e-6); }

TEST(Decoder, Bfloat16StaysCloseToDouble) {
  for (const std::string family : {"gpt2", "llama", "qwen3"}) {
    SCOPED_TRACE(family);
    expect_plain(tiny(family), at::kBFloat16, 2, 16, 0.06);
  }
}

TEST(Decoder, TheSameBitsOnEveryRun) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const model::Shape shape = with_everything();
    const auto specs = model::parameters(shape);
    const Tensors values = random_values(shape, dtype);
    const at::Tensor window = random_window(shape, 800);  // attention works in tiles, on all threads
    const std::vector<Parameter> once = with_gradients(specs, values), again = with_gradients(specs, values);
    const double loss = run_step(Decoder(shape, 1, once), window, 256).loss;
    EXPECT_EQ(run_step(Decoder(shape, 1, again), window, 256).loss, loss);
    for (std::size_t i = 0; i < specs.size(); ++i)
      EXPECT_TRUE(at::equal(once[i].gradient, again[i].gradient)) << specs[i].name;
  }
}

// Packed documents that are apart: the loss and gradients of each alone, weighted by its targets.
TEST(Decoder, DocumentsApartAreThoseOfEachAlone) {
  for (const std::string family : {"gpt2", "llama", "qwen3"}) {
    SCOPED_TRACE(family);
    const model::Shape shape = tiny(family);
    const auto specs = model::parameters(shape);
    const Tensors values = random_values(shape, at::kFloat);
    const at::Tensor window = random_window(shape, 53);
    const Sample packed = make_sample(window, {0, 20, 21, 33});
    const std::vector<Parameter> together = with_gradients(specs, values);
    const double loss = run_step(Decoder(shape, 2, together), packed, 16).loss;

    double sum = 0;
    const auto total = static_cast<double>(target_count(packed));
    ASSERT_EQ(total, 50);
    Tensors gradients;
    for (const Tensors::value_type& value : values) gradients.push_back(at::zeros(value.sizes(), at::kDouble));
    for (const auto& [first, tokens] : {std::pair{0, 20}, {21, 12}, {33, 21}}) {  // the one between has no target
      const std::vector<Parameter> alone = with_gradients(specs, values);
      const double share = (tokens - 1) / total;
      sum += share * run_step(Decoder(shape, 1, alone), window.narrow(0, first, tokens), 64).loss;
      for (std::size_t i = 0; i < specs.size(); ++i) gradients[i] += alone[i].gradient.to(at::kDouble) * share;
    }
    EXPECT_NEAR(loss, sum, 1e-6 * sum);
    for (std::size_t i = 0; i < specs.size(); ++i)
      EXPECT_LT(relative_error(together[i].gradient, gradients[i]), 5e-6) << specs[i].name;
  }
}

TEST(Decoder, TokensWithoutTargetHaveNoLossAndNoGradient) {
  const model::Shape shape = tiny("llama");
  const Decoder decoder(shape, 1, with_gradients(model::parameters(shape), random_values(shape, at::kFloat)));
  const at::Tensor x = at::randn({4, shape.hidden});
  const at::Tensor targets = at::tensor({-1, 5, -100, 7}, at::kLong);
  LossSum loss{10, {}};
  const at::Tensor d = decoder.loss(x, targets, 1.0, loss);
  const double sum = loss.value();
  const at::Tensor losses = decoder.token_losses(x, targets);
  EXPECT_NEAR(sum, 10 + losses.sum().item<double>(), 1e-5);
  EXPECT_EQ(losses[0].item<float>(), 0);
  EXPECT_EQ(losses[2].item<float>(), 0);
  EXPECT_EQ(d[0].abs().sum().item<float>(), 0);
  EXPECT_GT(d[1].abs().sum().item<float>(), 0);
  const at::Tensor counted = at::where(targets >= 0, targets, -100);
  EXPECT_NEAR(sum - 10, at::cross_entropy_loss(decoder.logits(x), counted, {}, at::Reduction::Sum).item<double>(),
              1e-5);
}

// A vocabulary of which 8 MiB are fewer rows than the block has: several tiles, the last one ragged.
TEST(Decoder, TilesOfTheLossAddUp) {
  model::Shape shape = tiny("llama");
  shape.layers = 1;
  shape.vocab = 30011;
  const std::int64_t tokens = 157;
  const auto specs = model::parameters(shape);
  const std::vector<Parameter> parameters = with_gradients(specs, random_values(shape, at::kFloat));
  const Decoder decoder(shape, 1, parameters);
  const at::Tensor x = at::randn({tokens, shape.hidden}), targets = at::randint(shape.vocab, {tokens}, at::kLong);
  LossSum loss;
  const at::Tensor d = decoder.loss(x, targets, 0.5, loss);
  const double sum = loss.value();

  const at::Tensor wide_x = as_leaf(x.to(at::kDouble)), head = as_leaf(parameters.back().value.to(at::kDouble));
  const at::Tensor norm = as_leaf(parameters[specs.size() - 2].value.to(at::kDouble));
  const at::Tensor normed = wide_x * at::rsqrt(wide_x.square().mean(-1, true) + shape.norm_eps) * norm;
  const at::Tensor wanted = at::cross_entropy_loss(at::linear(normed, head), targets, {}, at::Reduction::Sum);
  const Tensors of = torch::autograd::grad({wanted * 0.5}, {wide_x, norm, head});
  EXPECT_NEAR(sum, wanted.item<double>(), 1e-6 * sum);
  EXPECT_LT(relative_error(d, of[0]), 1e-5);
  EXPECT_LT(relative_error(parameters[specs.size() - 2].gradient, of[1]), 1e-5);
  EXPECT_LT(relative_error(parameters.back().gradient, of[2]), 1e-5);
}

// ---- memory

class Witness final : public SavedTensorKeeper {
 public:
  std::optional<std::any> pack(const at::Tensor& tensor) override {
    saved.push_back(tensor);
    return std::any(tensor);
  }
  at::Tensor unpack(const std::any& handle) override { return std::any_cast<const at::Tensor&>(handle); }
  Tensors saved;
};

class SegmentMemory : public testing::TestWithParam<at::ScalarType> {
 protected:
  SegmentMemory() {
    install_allocator();
    install_saved_tensor_hooks();
  }
  [[nodiscard]] at::Tensor random(std::int64_t columns) const { return at::randn({tokens, columns}).to(GetParam()); }
  static constexpr std::int64_t tokens = 128;
};

bool same_memory(const at::Tensor& a, const at::Tensor& b) { return a.const_data_ptr() == b.const_data_ptr(); }

TEST_P(SegmentMemory, SegmentsSaveTheirInputsOnly) {
  const model::Shape shape = tiny("llama");
  const Decoder decoder(shape, 2, with_gradients(model::parameters(shape), random_values(shape, GetParam())));
  Witness witness;
  const SavedTensorScope scope(witness);
  const auto saves = [&](const Tensors& inputs, const auto& segment) {
    witness.saved.clear();
    const auto outputs = segment();  // alive, so that addresses are not used again
    ASSERT_EQ(witness.saved.size(), inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(same_memory(witness.saved[i], inputs[i]));
  };
  const at::Tensor positions = at::arange(tokens);
  const at::Tensor x = as_leaf(random(48)), o0 = as_leaf(random(24)), o1 = as_leaf(random(24)), h = as_leaf(random(80));
  saves({x}, [&] { return decoder.attn_in(first_layer, x, positions); });
  saves({o0, o1}, [&] { return decoder.attn_out(first_layer, x.detach(), {o0, o1}); });
  saves({x}, [&] { return decoder.mlp_in(first_layer, x); });
  saves({h}, [&] { return decoder.mlp_out(first_layer, x.detach(), h); });
}

TEST_P(SegmentMemory, HeadNormsSaveQueriesAndKeysToo) {
  const model::Shape shape = tiny("qwen3");
  const Decoder decoder(shape, 2, with_gradients(model::parameters(shape), random_values(shape, GetParam())));
  Witness witness;
  const SavedTensorScope scope(witness);
  const at::Tensor positions = at::arange(tokens);
  const at::Tensor x = as_leaf(random(48));
  const Tensors outputs = decoder.attn_in(first_layer, x, positions);
  ASSERT_EQ(witness.saved.size(), 2u);
  EXPECT_TRUE(same_memory(witness.saved[0], x));
  EXPECT_EQ(witness.saved[1].sizes(), (std::vector<std::int64_t>{tokens, (4 + 2) * 12}));
}

TEST_P(SegmentMemory, NothingIsRecordedWithoutGradients) {
  const model::Shape shape = tiny("llama");
  const Decoder decoder(shape, 1, with_gradients(model::parameters(shape), random_values(shape, GetParam())));
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(decoder.mlp_in(first_layer, as_leaf(random(48))).requires_grad());
}

// Sizes of what `work` allocates, in order.
template <class F>
std::vector<std::int64_t> allocations(const F& work) {
  std::vector<std::int64_t> bytes;
  RecordingScope recording;
  {
    const auto results = work();
    for (const AllocationEvent& event : recording.events())
      if (event.is_malloc) bytes.push_back(event.bytes.value());
  }
  return bytes;
}

// Every request in order: outputs, and the transients that they need; matrix products add none, and weight gradients
// go straight to where they are kept.
TEST_P(SegmentMemory, SegmentsAllocateNothingHidden) {
  const model::Shape shape = tiny("llama");
  const Decoder decoder(shape, 2, with_gradients(model::parameters(shape), random_values(shape, GetParam())));
  const auto bytes = [&](std::int64_t columns) {
    return tokens * columns * static_cast<std::int64_t>(c10::elementSize(GetParam()));
  };
  using Sizes = std::vector<std::int64_t>;
  // bfloat16 products have scratch of their own, which does not grow with the block's size beyond a tile; without
  // AVX-512 up to three tiles for each of three products.
  const auto expect = [&](const Sizes& found, const Sizes& wanted) {
    if (GetParam() == at::kFloat) {
      EXPECT_EQ(found, wanted);
    }
    auto next = wanted.begin();
    for (const std::int64_t size : found) next += next != wanted.end() && *next == size ? 1 : 0;
    EXPECT_EQ(next, wanted.end()) << testing::PrintToString(found);
    EXPECT_LE(found.size(), 2 * wanted.size() + 9);
  };
  const std::int64_t norm_sums = tokens / 64 * 48 * 4;
  const at::Tensor positions = at::arange(tokens);
  const at::Tensor x = as_leaf(random(48)), o0 = as_leaf(random(24)), o1 = as_leaf(random(24)), h = as_leaf(random(80));
  const at::Tensor residual = x.detach();
  const auto backward = [](const Tensors& outputs, const Tensors& leaves) {
    Tensors d;
    for (const at::Tensor& output : outputs) d.push_back(at::ones_like(output));
    return allocations([&] { return torch::autograd::grad(outputs, leaves, d); });
  };
  // Forward: the normed input, raw q|k|v, a tensor for each group. Backward: raw's gradient, the normed input, the
  // result, sums of the norm's gradient.
  expect(allocations([&] { return decoder.attn_in(first_layer, x, positions); }),
         {bytes(48), bytes(96), bytes(48), bytes(48)});
  expect(backward(decoder.attn_in(first_layer, x, positions), {x}), {bytes(96), bytes(48), bytes(48), norm_sums});
  // Forward: o of all groups, the result. Backward: a result for each group.
  expect(allocations([&] { return decoder.attn_out(first_layer, residual, {o0, o1}); }), {bytes(48), bytes(48)});
  expect(backward({decoder.attn_out(first_layer, residual, {o0, o1})}, {o0, o1}), {bytes(24), bytes(24)});
  expect(allocations([&] { return decoder.mlp_in(first_layer, x); }), {bytes(48), bytes(80)});
  expect(backward({decoder.mlp_in(first_layer, x)}, {x}), {bytes(48), bytes(48), norm_sums});
  expect(allocations([&] { return decoder.mlp_out(first_layer, residual, h); }), {bytes(40), bytes(48)});
  expect(backward({decoder.mlp_out(first_layer, residual, h)}, {h}), {bytes(40), bytes(80)});
}

// A plan knows attention's requests at any length from two short ones: their number is fixed, sizes are linear.
TEST_P(SegmentMemory, AttentionAllocatesAlikeAtAnyLength) {
  const model::Shape shape = tiny("llama");
  const Decoder decoder(shape, 1, with_gradients(model::parameters(shape), random_values(shape, GetParam())));
  std::vector<std::vector<std::int64_t>> forward, backward;
  for (const std::int64_t length : {1024, 2048, 3072}) {
    const at::Tensor qkv = at::randn({length, 96}).to(GetParam()), d_o = at::randn({length, 48}).to(GetParam());
    std::tuple<at::Tensor, at::Tensor> result;
    forward.push_back(allocations([&] { return result = decoder.attention(qkv); }));
    const auto& [o, lse] = result;
    backward.push_back(allocations([&] { return decoder.attention_backward(d_o, qkv, o, lse); }));
  }
  for (const auto& at_length : {forward, backward}) {
    ASSERT_EQ(at_length[0].size(), at_length[2].size());
    for (std::size_t i = 0; i < at_length[0].size(); ++i)
      EXPECT_EQ(at_length[2][i] - at_length[1][i], at_length[1][i] - at_length[0][i]) << "request " << i;
  }
}

TEST(Attention, GradientsInBfloat16DoNotDriftWithLength) {
  const model::Shape shape = tiny("llama");
  const Decoder decoder(shape, 2, with_gradients(model::parameters(shape), random_values(shape, at::kFloat)));
  at::manual_seed(7);
  const at::Tensor qkv = at::randn({4096, 48}).to(at::kBFloat16), d_o = at::randn({4096, 24}).to(at::kBFloat16);
  const auto [o, lse] = decoder.attention(qkv);
  const auto [dq, dk, dv] = decoder.attention_backward(d_o, qkv, o, lse);
  const at::Tensor wide_qkv = qkv.to(at::kFloat);
  const auto [wide_o, wide_lse] = decoder.attention(wide_qkv);
  const auto [wq, wk, wv] = decoder.attention_backward(d_o.to(at::kFloat), wide_qkv, wide_o, wide_lse);
  EXPECT_LT(relative_error(dq, wq), 5e-3);
  EXPECT_LT(relative_error(dk, wk), 5e-3);
  EXPECT_LT(relative_error(dv, wv), 5e-3);
}

INSTANTIATE_TEST_SUITE_P(Types, SegmentMemory, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace memo::libtorch
