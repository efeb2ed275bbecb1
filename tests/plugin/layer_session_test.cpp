// Layers of someone else by token blocks against the same layers over the whole sequence under autograd: outputs,
// gradients of the input and of every parameter.
#include "memo/plugin/layer_session.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>
#include <stdexcept>

#include "memo/libtorch/kernels/attention.h"
#include "memo/planner/planner.h"
#include "memo/plugin/layer_profiler.h"

namespace memo::plugin {
namespace {

using model::BlockIndex, model::LayerIndex;

constexpr std::int64_t hidden = 64, heads = 4, kv_heads = 2, dim = 16, block = 64;
constexpr int layers = 3;
constexpr LayerIndex first_layer(0), last(layers - 1);

struct Weights {
  at::Tensor q, k, v, out, up, down;
  [[nodiscard]] std::vector<at::Tensor> all() const { return {q, k, v, out, up, down}; }
};

// x + out(attention(x)), then + down(relu(up(x))); gives sums of rows besides.
class Layers final : public LayerCalls {
 public:
  Layers() {
    at::manual_seed(1);
    const auto weight = [](std::int64_t rows, std::int64_t columns) {
      return (at::randn({rows, columns}) / 8).set_requires_grad(true);
    };
    for (int l = 0; l < layers; ++l)
      weights.push_back({weight(hidden, heads * dim), weight(hidden, kv_heads * dim), weight(hidden, kv_heads * dim),
                         weight(heads * dim, hidden), weight(hidden, 2 * hidden), weight(2 * hidden, hidden)});
  }

  AtAttention before(LayerIndex layer, BlockIndex of_block, const at::Tensor& x) override {
    const Weights& w = weights[layer];
    waiting_[{layer, of_block}] = x.unsqueeze(0).squeeze(0);  // a view, as of a batch
    const auto by_head = [](const at::Tensor& rows) { return rows.unflatten(1, {-1, dim}).transpose(0, 1); };
    return {by_head(at::matmul(x, w.q)), by_head(at::matmul(x, w.k)), by_head(at::matmul(x, w.v)), 0,
            std::make_shared<libtorch::OwnMask>(libtorch::OwnMask{{}, window})};
  }
  AtOutput after(LayerIndex layer, BlockIndex of_block, const at::Tensor& o) override {
    const at::Tensor x = waiting_.extract({layer, of_block}).mapped();
    if (fails) throw std::runtime_error("out of luck");
    at::Tensor y = end(layer, x, o.flatten(1));
    // Of so many rows as there are positive sums of x.
    if (grows) (void)at::empty({1 + (x.detach().sum(1) > 0).sum().item<std::int64_t>(), 100});
    return {y, {y.sum(1, true)}};
  }
  void begin_exchange(const at::Tensor&, const at::Tensor&) override {}
  void end_exchange() override {}
  void forget() override { waiting_.clear(); }

  at::Tensor whole(LayerIndex layer, const at::Tensor& x) const {
    const Weights& w = weights[layer];
    const auto by_head = [](const at::Tensor& rows) { return rows.unflatten(1, {-1, dim}).transpose(0, 1); };
    const std::int64_t group = heads / kv_heads;
    const at::Tensor q = by_head(at::matmul(x, w.q)), k = by_head(at::matmul(x, w.k)).repeat_interleave(group, 0);
    const at::Tensor v = by_head(at::matmul(x, w.v)).repeat_interleave(group, 0), key = at::arange(x.size(0));
    at::Tensor unseen = key > key.unsqueeze(1);
    if (window > 0) unseen = unseen | (key <= key.unsqueeze(1) - window);
    const at::Tensor scores = (at::matmul(q, k.transpose(1, 2)) / std::sqrt(double(dim))).masked_fill(unseen, -1e30);
    return end(layer, x, at::matmul(at::softmax(scores, -1), v).transpose(0, 1).flatten(1));
  }

  IndexedVector<LayerIndex, Weights> weights;
  IndexedVector<LayerIndex, int> kinds{0, 0, 0};  // of the layers; those of kind 1 do more behind attention
  std::int64_t window = 0;
  bool fails = false, grows = false;

 private:
  at::Tensor end(LayerIndex layer, const at::Tensor& x, const at::Tensor& o) const {
    const Weights& w = weights[layer];
    const at::Tensor middle = x + at::matmul(o, w.out);
    const at::Tensor y = middle + at::matmul(at::relu(at::matmul(middle, w.up)), w.down);
    return kinds[layer] == 1 ? y + at::tanh(y) : y;
  }
  std::map<std::pair<LayerIndex, BlockIndex>, at::Tensor> waiting_;
};

struct Outcome {
  std::vector<at::Tensor> tensors;  // output, sums, gradients
};

class LayerSessions : public ::testing::Test {
 protected:
  LayerProfiler profiler(int forward_layers = 0) {
    LayerOptions options{"tiny", {layers, hidden, heads, kv_heads, dim}, at::kFloat, 1, Tokens(block), {}};
    options.memory.disk = "/var/tmp";
    options.shape.kinds = calls.kinds;
    options.shape.forward_layers = forward_layers;
    std::vector<LayerExample> examples;  // layer k is of kind k
    for (int kind = 0; kind < options.shape.kind_count(); ++kind)
      examples.push_back({at::randn({2 * block, hidden}), calls.weights[LayerIndex(kind)].all()});
    auto made = LayerProfiler::open(options, std::move(examples), calls, *device);
    EXPECT_TRUE(made.has_value()) << (made ? "" : made.error().message);
    return *std::move(made);
  }
  std::unique_ptr<LayerSession> open(LayerProfiler& from, const std::string& strategy, Bytes limit = {}) {
    auto profile = from.profile(Tokens(6 * block));
    EXPECT_TRUE(profile.has_value()) << (profile ? "" : profile.error().message);
    auto plan = planner::make_plan(profile.value(), {strategy, limit, 0});
    EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
    auto session =
        LayerSession::open(*std::move(plan), from.options().shape, at::kFloat, from.options().memory, calls, *device);
    EXPECT_TRUE(session.has_value()) << (session ? "" : session.error().message);
    return *std::move(session);
  }
  Outcome step(LayerSession& session) {
    at::Tensor x = input;
    Outcome outcome;
    for (const LayerIndex l : indices<LayerIndex>(layers)) {
      auto outputs = session.forward(l, x);
      if (!outputs) throw std::runtime_error(outputs.error().message);
      x = outputs->hidden;
      if (l == last) outcome.tensors = {x, outputs->extra_outputs.at(0)};
    }
    at::Tensor d = d_output;
    for (LayerIndex l = last; l.exists(); --l) {
      const at::Tensor d_sums = l == last ? d_extra_outputs : at::zeros_like(d_extra_outputs);
      auto gradients = session.backward(l, d, {d_sums}, calls.weights[l].all());
      if (!gradients) throw std::runtime_error(gradients.error().message);
      d = gradients->hidden;
      outcome.tensors.insert(outcome.tensors.end(), gradients->parameters.begin(), gradients->parameters.end());
    }
    outcome.tensors.push_back(d);
    return outcome;
  }
  Outcome expected() {
    const at::Tensor x = input.clone().set_requires_grad(true);
    at::Tensor y = x;
    for (const LayerIndex l : indices<LayerIndex>(layers)) y = calls.whole(l, y);
    const at::Tensor sums = y.sum(1, true);
    std::vector<at::Tensor> wanted;
    for (LayerIndex l = last; l.exists(); --l)
      for (const at::Tensor& weight : calls.weights[l].all()) wanted.push_back(weight);
    wanted.push_back(x);
    Outcome outcome{{y.detach(), sums.detach()}};
    for (const at::Tensor& g : torch::autograd::grad({y, sums}, wanted, {d_output, d_extra_outputs}))
      outcome.tensors.push_back(g);
    return outcome;
  }
  static void expect_near(const Outcome& ours, const Outcome& exact) {
    ASSERT_EQ(ours.tensors.size(), exact.tensors.size());
    for (std::size_t i = 0; i < exact.tensors.size(); ++i) {
      const double error = (ours.tensors[i] - exact.tensors[i]).norm().item<double>();
      EXPECT_LE(error, 1e-5 * exact.tensors[i].norm().item<double>()) << "tensor " << i;
    }
  }

  std::unique_ptr<libtorch::Device> device = libtorch::cpu_device();
  Layers calls;
  at::Tensor input = at::randn({350, hidden}), d_output = at::randn({350, hidden}),
             d_extra_outputs = at::randn({350, 1});
};

TEST_F(LayerSessions, GiveWhatTheLayersGiveWhereverTensorsAreMeanwhile) {
  for (const std::int64_t window : {0, 100}) {
    calls.window = window;
    LayerProfiler from = profiler();
    EXPECT_FALSE(from.options().shape.is_data_dependent(0));
    const Outcome exact = expected();
    std::optional<Outcome> first;
    for (const char* strategy : {"resident", "recompute", "offload", "memo-alpha", "memo"}) {
      const auto session = open(from, strategy);
      const Outcome ours = step(*session);
      expect_near(ours, exact);
      if (!first) first = ours;
      for (std::size_t i = 0; i < ours.tensors.size(); ++i)
        EXPECT_TRUE(at::equal(ours.tensors[i], first->tensors[i])) << strategy << ", tensor " << i;
      EXPECT_EQ(session->departure_count(), 0);
      const exec::CheckReport check = session->check().value();
      EXPECT_GT(check.accesses, 0);
      EXPECT_EQ(check.conflicts > 0, session->plan().predicted.bytes_out > Bytes(0)) << strategy;
      EXPECT_EQ(session->device_peak() <= session->plan().program.arena + Bytes(1 << 16), true);
    }
  }
}

TEST_F(LayerSessions, WhatAllocatesByValueIsComputedAgainUnplanned) {
  calls.grows = true;
  LayerProfiler from = profiler();
  EXPECT_TRUE(from.options().shape.is_data_dependent(0));
  for (const char* strategy : {"resident", "recompute", "offload"})
    expect_near(step(*open(from, strategy)), expected());
}

TEST_F(LayerSessions, OfSeveralKindsGiveWhatTheLayersGive) {
  calls.kinds = {0, 1, 0};
  LayerProfiler from = profiler();
  for (const char* strategy : {"resident", "recompute", "offload", "memo"}) {
    const auto session = open(from, strategy);
    expect_near(step(*session), expected());
    EXPECT_EQ(session->departure_count(), 0);
  }
}

TEST_F(LayerSessions, TheFirstLayersMayHaveNoBackwardSide) {
  calls.kinds = {0, 1, 1};
  LayerProfiler from = profiler(1);
  const auto alone = from.try_layer(0, calls, input, {}, calls.weights[first_layer].all());
  ASSERT_TRUE(alone.has_value()) << alone.error().message;
  EXPECT_FALSE(alone->gradients.hidden.defined());
  for (const char* strategy : {"resident", "offload"}) {
    const auto session = open(from, strategy);
    for (int steps = 0; steps < 2; ++steps) {
      const auto first = session->forward(first_layer, input);
      ASSERT_TRUE(first.has_value()) << first.error().message;
      at::Tensor x = first->hidden;
      EXPECT_TRUE(at::equal(x, alone->outputs.hidden));
      EXPECT_LE((x - calls.whole(first_layer, input)).norm().item<double>(), 1e-5 * x.norm().item<double>());
      for (LayerIndex l(1); l <= last; ++l) {
        const auto outputs = session->forward(l, x);
        ASSERT_TRUE(outputs.has_value()) << outputs.error().message;
        x = outputs->hidden;
      }
      at::Tensor d = d_output;
      for (LayerIndex l = last; l > first_layer; --l) {
        const auto gradients = session->backward(l, d, {at::zeros_like(d_extra_outputs)}, calls.weights[l].all());
        ASSERT_TRUE(gradients.has_value()) << gradients.error().message;
        d = gradients->hidden;
      }
      EXPECT_TRUE(session->report().has_value());
      const at::Tensor in = calls.whole(first_layer, input).detach().set_requires_grad(true);
      const at::Tensor exact =
          torch::autograd::grad({calls.whole(last, calls.whole(LayerIndex(1), in))}, {in}, {d_output})[0];
      EXPECT_LE((d - exact).norm().item<double>(), 1e-5 * exact.norm().item<double>());
    }
    EXPECT_EQ(session->departure_count(), 0);
  }
}

TEST_F(LayerSessions, AFailedStepNamesItsCallAndTheNextOneIsWhole) {
  LayerProfiler from = profiler();
  const auto session = open(from, "offload");
  calls.fails = true;
  const auto failed = session->forward(first_layer, input);
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find("after (layer 0, block 0): out of luck"), std::string::npos)
      << failed.error().message;
  calls.fails = false;
  expect_near(step(*session), expected());
  ASSERT_TRUE(session->forward(first_layer, input).has_value());  // abandoned
  expect_near(step(*session), expected());
}

TEST_F(LayerSessions, WhatDepartsFromItsRecordEndsTheStep) {
  LayerProfiler from = profiler();
  const auto session = open(from, "resident");
  calls.grows = true;
  const auto failed = session->forward(first_layer, input);
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find("does not allocate what was recorded"), std::string::npos);
}

TEST_F(LayerSessions, LayersComeInOrder) {
  LayerProfiler from = profiler();
  const auto session = open(from, "resident");
  EXPECT_FALSE(session->forward(LayerIndex(1), input).has_value());
  ASSERT_TRUE(session->forward(first_layer, input).has_value());
  EXPECT_FALSE(session->forward(LayerIndex(2), input).has_value());
  EXPECT_FALSE(session->backward(LayerIndex(2), d_output, {}, {}).has_value());
  EXPECT_FALSE(session->forward(first_layer, at::randn({7 * block, hidden})).has_value());  // longer than its plan
}

TEST_F(LayerSessions, PlansForOtherLayersAreRefused) {
  LayerProfiler from = profiler();
  auto plan = planner::make_plan(*from.profile(Tokens(2 * block)), {"resident", Bytes(0), 0});
  model::LayerShape other = from.options().shape;
  other.layers = 2;
  EXPECT_FALSE(
      LayerSession::open(*std::move(plan), other, at::kFloat, job::MemoryLimits{}, calls, *device).has_value());
}

}  // namespace
}  // namespace memo::plugin
