// Records layers of each kind, compares their allocations for different values, and times them.
#include "memo/plugin/layer_profiler.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "memo/base/check.h"
#include "memo/base/median.h"
#include "memo/libtorch/measure/recorder.h"
#include "memo/libtorch/measure/tier_profile.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/device_kind.h"
#include "memo/libtorch/memory/saved_tensors.h"
#include "memo/planner/planner.h"
#include "memo/plugin/layer_segments.h"
#include "memo/plugin/layer_session.h"

namespace memo::plugin {
namespace {

constexpr int steps_measured = 3;  // after a first one, which pays for fresh pages

// Uses a generator of its own: the process's random numbers are the user's.
at::Tensor noise(const at::Tensor& like, std::uint64_t seed) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return at::randn(like.sizes(), generator, like.options().device(at::kCPU)).to(like.device());
}

std::vector<at::Tensor> zeros_like(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(at::zeros_like(tensor));
  return result;
}

libtorch::Length length_of(Tokens tokens, std::int64_t window) {
  const auto n = static_cast<double>(tokens.value());
  return {n, libtorch::pairs_seen(n, static_cast<double>(window))};
}

// The table and traces of a layer of each kind, without times, and the windows of their attention.
struct Recorded {
  plan::Profile profile;
  std::vector<std::int64_t> windows;
};
Result<Recorded> record_layers(const LayerOptions& options, const model::LayerShape& shape, Tokens context,
                               const LayerExample& example, LayerCalls& calls, libtorch::Device& device,
                               const libtorch::AttentionKernel& kernel, bool documents) {
  Recorded result;
  plan::Profile& profile = result.profile;
  profile.model = options.model;
  profile.device = device.name();
  profile.attention = kernel.name;
  profile.flow = layers_dataflow(shape, options.dtype, options.groups, context, options.block);
  LayerSegments segments(profile.flow, shape, options.dtype.attention, calls, kernel);
  segments.begin_forward(example.hidden);
  segments.begin_backward({example.hidden}, at::empty_like(example.hidden), example.parameters);
  std::string failure;
  try {
    MEMO_TRY(profile.traces, libtorch::run_on(device, [&] {
               return libtorch::record(profile.flow, segments, options.dtype, {}, device.of_tensors(), documents);
             }));
  } catch (const std::exception& error) {
    failure = error.what();
    calls.failed(std::current_exception());
  }
  segments.forget();
  if (!failure.empty()) return bad_input("layer 0: " + failure.substr(0, failure.find('\n')));
  for (const model::LayerIndex layer : indices<model::LayerIndex>(profile.flow.layers))
    result.windows.push_back(segments.window(layer));
  return result;
}

at::Tensor first_block(const LayerOptions& options, const at::Tensor& hidden) {
  const std::int64_t block = options.block.value();
  if (hidden.size(0) >= block) return hidden.narrow(0, 0, block).contiguous();
  return at::cat({hidden, at::zeros({block - hidden.size(0), hidden.size(1)}, hidden.options())});
}

// The allocations of a segment's calls, as text.
std::string requests_of(const plan::Profile& profile, model::SegmentIndex segment) {
  std::string text;
  for (const plan::Trace& trace : profile.traces) {
    if (trace.segment != segment) continue;
    text += trace.backward ? "backward" : "forward";
    for (const plan::Request& r : trace.requests)
      text += fmt::format(" {}@{}-{}{}", r.bytes.value(), r.born, r.cls.exists() ? 0 : r.dies,
                          !r.cls.exists() ? "" : profile.flow.classes[r.cls].name);
  }
  return text;
}

}  // namespace

std::string attention_refusal(at::Device place, at::ScalarType dtype, float softcap, std::int64_t head_dim) {
  if (libtorch::kind_of(place.type()) == nullptr) return "it: this build is for the CPU";
  const libtorch::AttentionNeeds needs{dtype, head_dim, softcap};
  return libtorch::why_not(libtorch::attention_kernels(place.type()).front().limits, needs);
}

bool one_document_matters(at::Device place, const std::string& kernel, Tokens context) {
  return std::ranges::any_of(libtorch::attention_kernels(place.type()), [&](const libtorch::AttentionKernel& k) {
    const bool may =
        kernel == "auto" ? k.limits.in_order || context.value() > libtorch::longest_in_order : kernel == k.name;
    return may && !k.limits.documents;
  });
}

LayerProfiler::LayerProfiler(LayerOptions options, std::vector<LayerExample> examples, LayerCalls& calls,
                             libtorch::Device& device)
    : options_(std::move(options)), examples_(std::move(examples)), calls_(&calls), device_(&device) {}

Result<LayerProfiler> LayerProfiler::open(LayerOptions options, std::vector<LayerExample> examples, LayerCalls& calls,
                                          libtorch::Device& device) {
  libtorch::install_allocator();
  libtorch::install_saved_tensor_hooks();
  LayerProfiler profiler(std::move(options), std::move(examples), calls, device);
  MEMO_TRY(profiler.kernel_, libtorch::attention_named(libtorch::attention_kernels(device.of_tensors().type()),
                                                       profiler.options_.kernel));
  const std::int64_t block = profiler.options_.block.value();
  const std::int64_t blocks = profiler.examples_.front().hidden.size(0) / block;
  MEMO_CHECK(static_cast<int>(profiler.examples_.size()) == profiler.options_.shape.kind_count(), "an example a kind");
  for (const LayerExample& example : profiler.examples_)
    MEMO_CHECK(example.hidden.scalar_type() == profiler.options_.dtype.rows, "hidden states are of their dtype");
  if (blocks < 1) return bad_input("a profile needs hidden states of a whole block");
  MEMO_CHECKED(profiler.find_data_dependent());
  if (blocks >= 2) MEMO_CHECKED(profiler.measure(Tokens(blocks / 2 * block)));
  MEMO_CHECKED(profiler.measure(Tokens(blocks * block)));
  plan::Profile tier;
  MEMO_CHECKED(libtorch::add_tier(tier, profiler.options_.memory, device));
  profiler.tiers_ = tier.tiers;
  return profiler;
}

libtorch::Length LayerProfiler::mean_length(Tokens tokens) const {
  if (options_.windows.empty()) return length_of(tokens, window_);
  libtorch::Length mean = length_of(tokens, 0);
  mean.pairs = 0;
  for (const std::int64_t window : options_.windows)
    mean.pairs += length_of(tokens, window).pairs / static_cast<double>(options_.windows.size());
  return mean;
}

model::LayerShape LayerProfiler::kinds_alone() const {
  model::LayerShape shape = options_.shape;
  shape.layers = shape.kind_count();
  shape.forward_layers = shape.forward_kinds();
  shape.kinds.clear();
  for (int kind = 0; kind < shape.layers; ++kind) shape.kinds.push_back(kind);
  return shape;
}

// Finds the kinds whose allocations depend on values, by recording two different inputs.
Status LayerProfiler::find_data_dependent() {
  const model::LayerShape shape = kinds_alone();
  options_.shape.data_dependent.resize(at(shape.layers), false);
  LayerExample example = recorded_example();
  MEMO_TRY(const Recorded one, record_layers(options_, shape, options_.block, example, *calls_, *device_, *kernel_,
                                             kernel_->limits.documents));
  example.hidden = noise(example.hidden, 1);
  MEMO_TRY(const Recorded other, record_layers(options_, shape, options_.block, example, *calls_, *device_, *kernel_,
                                               kernel_->limits.documents));
  const auto sees = [](std::int64_t window) { return window > 0 ? window : std::numeric_limits<std::int64_t>::max(); };
  const auto first = one.windows.begin() + shape.forward_layers;  // the first layer with a backward side
  measured_ = static_cast<int>(std::ranges::max_element(first, one.windows.end(), {}, sees) - one.windows.begin());
  window_ = one.windows[at(measured_)];
  for (const model::SegmentIndex s : one.profile.flow.segments.indices())
    if (requests_of(one.profile, s) != requests_of(other.profile, s)) {
      const model::Segment& segment = one.profile.flow.segments[s];
      if (segment.stage != model::Stage::after)
        return bad_input("layer 0: it allocates otherwise for other values before its attention");
      options_.shape.data_dependent[at(std::max(segment.kind, 0))] = true;
    }
  return {};
}

// A block of the first kind's hidden states, and the parameters of all kinds.
LayerExample LayerProfiler::recorded_example() const {
  LayerExample result{first_block(options_, examples_.front().hidden), {}};
  for (const LayerExample& each : examples_)
    result.parameters.insert(result.parameters.end(), each.parameters.begin(), each.parameters.end());
  return result;
}

Result<std::unique_ptr<LayerSession>> LayerProfiler::open(const model::LayerShape& shape, Tokens context,
                                                          const LayerExample& example, LayerCalls& calls) {
  MEMO_TRY(const Recorded recorded,
           record_layers(options_, shape, context, example, calls, *device_, *kernel_, kernel_->limits.documents));
  MEMO_TRY(plan::Plan plan, planner::make_plan(recorded.profile, {"resident", Bytes(0), 0}));
  return LayerSession::open(std::move(plan), shape, options_.dtype, options_.memory, calls, *device_);
}

Result<LayerTrial> LayerProfiler::try_layer(int kind, LayerCalls& calls, const at::Tensor& hidden,
                                            const at::Tensor& d_output, const std::vector<at::Tensor>& parameters) {
  model::LayerShape shape = options_.shape;
  shape.layers = 1;
  shape.kinds.clear();
  shape.forward_layers = d_output.defined() ? 0 : 1;
  shape.data_dependent = {options_.shape.is_data_dependent(kind)};
  const std::int64_t blocks = (hidden.size(0) - 1) / options_.block.value() + 1;
  const LayerExample example{first_block(options_, hidden), parameters};
  MEMO_TRY(const auto session, open(shape, options_.block * blocks, example, calls));
  LayerTrial trial;
  MEMO_TRY(trial.outputs, session->forward(model::LayerIndex(0), hidden));
  if (!d_output.defined()) return trial;
  MEMO_TRY(trial.gradients,
           session->backward(model::LayerIndex(0), d_output, zeros_like(trial.outputs.extra_outputs), parameters));
  return trial;
}

// Times the calls of a layer of each kind.
Status LayerProfiler::measure(Tokens context) {
  MEMO_TRY(const auto session, open(kinds_alone(), context, recorded_example(), *calls_));
  const model::Dataflow& flow = session->plan().profile.flow;
  std::map<std::tuple<model::SegmentIndex, bool>, std::vector<double>> core;
  for (int step = 0; step <= steps_measured; ++step) {
    std::vector<LayerOutputs> outputs;
    for (int kind = 0; kind < flow.layers; ++kind) {
      const at::Tensor& hidden = examples_[at(kind)].hidden;
      MEMO_TRY(LayerOutputs given, session->forward(model::LayerIndex(kind), hidden.narrow(0, 0, context.value())));
      outputs.push_back(std::move(given));
    }
    for (int kind = flow.layers - 1; kind >= flow.forward_layers; --kind) {
      const LayerOutputs& given = outputs[at(kind)];
      MEMO_CHECKED(session->backward(model::LayerIndex(kind), noise(given.hidden, 2), zeros_like(given.extra_outputs),
                                     examples_[at(kind)].parameters));
    }
    if (step == 0 || !session->report()) continue;
    for (const exec::Span& span : session->report()->calls) {
      const plan::Call& call = session->plan().program.calls[plan::CallIndex(span.index)];
      const bool backward = call.phase == plan::Phase::backward;
      const bool is_core = flow.segments[call.segment].stage == model::Stage::core;
      if (is_core && call.layer != model::LayerIndex(measured_)) continue;
      (is_core ? core : seconds_)[{call.segment, backward}].push_back(span.end - span.start);
    }
  }
  for (auto& [key, values] : core) attention_[key].emplace_back(length_of(context, window_), median(values));
  return {};
}

Seconds LayerProfiler::seconds_per_token() const {
  double of_block = 0;
  for (const auto& [call, seconds] : seconds_) of_block += median(seconds);
  return Seconds(of_block / static_cast<double>(options_.block.value()));
}

Result<libtorch::AttentionChoice> LayerProfiler::choose(Tokens context, const std::string& kernel, bool documents) {
  if (calls_->ranks() > 1) return libtorch::AttentionChoice{kernel_, {}, {}, {}};  // timed with its exchanges
  if (const auto found = timed_.find({kernel, documents}); found != timed_.end() && found->second.first >= context)
    return found->second.second;
  libtorch::CoreCalls core{
      {options_.shape.heads / options_.groups, options_.shape.kv_heads / options_.groups, options_.shape.head_dim},
      options_.dtype.attention,
      context};
  core.window = window_;
  for (const std::int64_t window : options_.windows)
    if (window > 0) core.any_window = true;
  core.documents = documents;
  core.in_order = context.value() <= libtorch::longest_in_order;
  MEMO_TRY(
      libtorch::AttentionChoice choice,
      libtorch::choose_attention(libtorch::attention_kernels(device_->of_tensors().type()), kernel, core, *device_));
  timed_[{choice.kernel->name, documents}] = {context, choice};
  return choice;
}

Result<plan::Profile> LayerProfiler::profile(Tokens context, const std::string& kernel, bool documents) {
  MEMO_TRY(const libtorch::AttentionChoice choice, choose(context, kernel, documents));
  MEMO_TRY(Recorded recorded, record_layers(options_, kinds_alone(), context, recorded_example(), *calls_, *device_,
                                            *choice.kernel, documents && choice.kernel->limits.documents));
  plan::Profile profile = std::move(recorded.profile);
  profile.flow.layers = options_.shape.layers;
  profile.flow.forward_layers = options_.shape.forward_layers;
  if (!profile.flow.kinds.empty()) profile.flow.kinds = options_.shape.kinds;
  profile.attention_measured = choice.measured;
  for (plan::Trace& trace : profile.traces) {
    const std::tuple key(trace.segment, trace.backward);
    const auto& alone = trace.backward ? choice.backward : choice.forward;
    const model::Stage stage = profile.flow.segments[trace.segment].stage;
    if (stage == model::Stage::wait) continue;
    trace.seconds =
        Seconds(stage == model::Stage::core
                    ? libtorch::attention_seconds(alone.empty() ? attention_[key] : alone, mean_length(trace.tokens))
                    : median(seconds_[key]));
  }
  // With several ranks, the first blocks of a rank are not the first blocks of the sequence: no prefix can be computed
  // alone.
  if (calls_->ranks() > 1)
    std::erase_if(profile.traces, [&](const plan::Trace& trace) {
      return profile.flow.segments[trace.segment].stage == model::Stage::core && trace.tokens != context;
    });
  profile.tiers = tiers_;
  return profile;
}

Result<LayerTraces> trace_layer(const LayerOptions& options, const LayerExample& example, LayerCalls& calls,
                                libtorch::Device& device) {
  libtorch::install_allocator();
  libtorch::install_saved_tensor_hooks();
  const auto kernels = libtorch::attention_kernels(device.of_tensors().type());
  MEMO_TRY(const libtorch::AttentionKernel* kernel, libtorch::attention_named(kernels, options.kernel));
  MEMO_TRY(const Recorded recorded, record_layers(options, options.shape, options.block, example, calls, device,
                                                  *kernel, kernel->limits.documents));
  LayerTraces traces;
  const model::Dataflow& flow = recorded.profile.flow;
  for (const model::SegmentIndex s : flow.segments.indices()) {
    if (flow.segments[s].stage == model::Stage::before) traces.before += requests_of(recorded.profile, s);
    if (flow.segments[s].stage == model::Stage::after) traces.after += requests_of(recorded.profile, s);
  }
  return traces;
}

}  // namespace memo::plugin
