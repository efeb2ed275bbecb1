#include "memo/plugin/layer_profiler.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "memo/base/check.h"
#include "memo/base/median.h"
#include "memo/plugin/layer_segments.h"
#include "memo/plugin/layer_session.h"
#include "memo/sim/planner.h"
#include "memo/torch/allocator.h"
#include "memo/torch/recorder.h"
#include "memo/torch/saved_tensors.h"
#include "memo/torch/tier_profile.h"

namespace memo::plugin {
namespace {

constexpr int steps_measured = 3;  // behind one that pays for fresh pages

// Not of the process's own random numbers, which are the user's.
at::Tensor noise(const at::Tensor& like, std::uint64_t seed) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return at::randn(like.sizes(), generator, like.options().device(at::kCPU)).to(like.device());
}

std::vector<at::Tensor> zeros_like(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(at::zeros_like(tensor));
  return result;
}

edge::Length length_of(Tokens tokens, std::int64_t window) {
  const auto n = static_cast<double>(tokens.value());
  return {n, edge::pairs_seen(n, static_cast<double>(window))};
}

}  // namespace

LayerProfiler::LayerProfiler(LayerOptions options, at::Tensor hidden, std::vector<at::Tensor> parameters,
                             LayerCalls& calls, edge::Device& device)
    : options_(std::move(options)),
      hidden_(std::move(hidden)),
      parameters_(std::move(parameters)),
      calls_(&calls),
      device_(&device) {}

Result<LayerProfiler> LayerProfiler::open(LayerOptions options, at::Tensor hidden, std::vector<at::Tensor> parameters,
                                          LayerCalls& calls, edge::Device& device) {
  edge::install_allocator();
  edge::install_saved_tensor_hooks();
  LayerProfiler profiler(std::move(options), std::move(hidden), std::move(parameters), calls, device);
  const std::int64_t block = profiler.options_.block.value(), blocks = profiler.hidden_.size(0) / block;
  MEMO_CHECK(profiler.hidden_.scalar_type() == profiler.options_.dtype.rows, "hidden states are of their dtype");
  if (blocks < 1) return bad_input("a profile needs hidden states of a whole block");
  MEMO_TRY(const bool alike, profiler.allocates_alike());
  profiler.options_.shape.loose = !alike;
  if (blocks >= 2) MEMO_CHECKED(profiler.measure(Tokens(blocks / 2 * block)));
  MEMO_CHECKED(profiler.measure(Tokens(blocks * block)));
  plan::Profile tier;
  MEMO_CHECKED(edge::add_tier(tier, profiler.options_.memory, device));
  profiler.tiers_ = tier.tiers;
  return profiler;
}

edge::Length LayerProfiler::mean_length(Tokens tokens) const {
  if (options_.windows.empty()) return length_of(tokens, window_);
  edge::Length mean = length_of(tokens, 0);
  mean.pairs = 0;
  for (const std::int64_t window : options_.windows)
    mean.pairs += length_of(tokens, window).pairs / static_cast<double>(options_.windows.size());
  return mean;
}

// Whether a layer allocates the same for other values.
Result<bool> LayerProfiler::allocates_alike() {
  MEMO_TRY(const plan::Profile one, record(1, options_.block, hidden_));
  MEMO_TRY(const plan::Profile other, record(1, options_.block, noise(hidden_, 1)));
  if (one.flow.classes.size() != other.flow.classes.size()) return false;
  return std::ranges::equal(one.traces, other.traces, [](const plan::Trace& a, const plan::Trace& b) {
    return std::ranges::equal(a.requests, b.requests, {}, &plan::Request::bytes, &plan::Request::bytes);
  });
}

Result<plan::Profile> LayerProfiler::record(int layers, Tokens context, const at::Tensor& hidden) {
  plan::Profile profile;
  profile.model = options_.model;
  profile.device = device_->name();
  model::LayerShape shape = options_.shape;
  shape.layers = layers;
  profile.flow = layers_dataflow(shape, options_.dtype, options_.groups, context, options_.block);
  LayerSegments segments(profile.flow, shape, options_.dtype.attention, *calls_);
  const at::Tensor in = hidden.narrow(0, 0, options_.block.value()).contiguous();
  segments.begin_forward(in);
  segments.begin_backward({in}, at::empty_like(in), parameters_);
  std::string failure;
  try {
    MEMO_TRY(profile.traces, edge::run_on(*device_, [&] {
               return edge::record(profile.flow, segments, options_.dtype, {}, device_->of_tensors());
             }));
  } catch (const std::exception& error) {
    failure = error.what();
  }
  segments.forget();
  window_ = segments.window(0);
  if (!failure.empty()) return bad_input("layer 0: " + failure.substr(0, failure.find('\n')));
  return profile;
}

Result<std::unique_ptr<LayerSession>> LayerProfiler::open_one(Tokens context, LayerCalls& calls) {
  MEMO_TRY(const plan::Profile profile, record(1, context, hidden_));
  MEMO_TRY(plan::Plan plan, sim::make_plan(profile, {"resident", Bytes(0), 0}));
  model::LayerShape shape = options_.shape;
  shape.layers = 1;
  return LayerSession::open(std::move(plan), shape, options_.dtype, options_.memory, calls, *device_);
}

Result<LayerTrial> LayerProfiler::try_layer(LayerCalls& calls, const at::Tensor& hidden, const at::Tensor& d_output,
                                            const std::vector<at::Tensor>& parameters) {
  MEMO_TRY(const auto session, open_one(Tokens(hidden.size(0)), calls));
  LayerTrial trial;
  MEMO_TRY(trial.outputs, session->forward(0, hidden));
  MEMO_TRY(trial.gradients, session->backward(0, d_output, zeros_like(trial.outputs.besides), parameters));
  return trial;
}

// Keeps the times of one layer's calls.
Status LayerProfiler::measure(Tokens context) {
  MEMO_TRY(const auto session, open_one(context, *calls_));
  const model::Dataflow& flow = session->plan().profile.flow;
  const at::Tensor hidden = hidden_.narrow(0, 0, context.value()), d = noise(hidden, 2);
  std::map<std::tuple<int, bool>, std::vector<double>> core;
  for (int step = 0; step <= steps_measured; ++step) {
    MEMO_TRY(const LayerOutputs outputs, session->forward(0, hidden));
    MEMO_CHECKED(session->backward(0, d, zeros_like(outputs.besides), parameters_));
    if (step == 0) continue;
    for (const exec::Span& span : session->report()->calls) {
      const plan::Call& call = session->plan().program.calls[static_cast<std::size_t>(span.index)];
      const bool backward = call.phase == plan::Phase::backward;
      const bool is_core = flow.segments[static_cast<std::size_t>(call.segment)].stage == model::Stage::core;
      (is_core ? core : seconds_)[{call.segment, backward}].push_back(span.end - span.start);
    }
  }
  for (auto& [key, values] : core) attention_[key].emplace_back(length_of(context, window_), median(values));
  return {};
}

Result<plan::Profile> LayerProfiler::profile(Tokens context) {
  MEMO_TRY(plan::Profile profile, record(options_.shape.layers, context, hidden_));
  for (plan::Trace& trace : profile.traces) {
    const std::tuple key(trace.segment, trace.backward);
    const model::Stage stage = profile.flow.segments[static_cast<std::size_t>(trace.segment)].stage;
    if (stage == model::Stage::wait) continue;
    trace.seconds =
        Seconds(stage == model::Stage::core ? edge::attention_seconds(attention_[key], mean_length(trace.tokens))
                                            : median(seconds_[key]));
  }
  // The first blocks of a rank are not the first of the sequence.
  if (calls_->ranks() > 1)
    std::erase_if(profile.traces, [&](const plan::Trace& trace) {
      return profile.flow.segments[static_cast<std::size_t>(trace.segment)].stage == model::Stage::core &&
             trace.tokens != context;
    });
  profile.tiers = tiers_;
  return profile;
}

}  // namespace memo::plugin
