// Plays a program in parts, each up to the last call of a layer's forward or backward side.
#include "memo/plugin/layer_session.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "memo/base/check.h"
#include "memo/check/validate.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/saved_tensors.h"
#include "memo/libtorch/run/runner.h"
#include "memo/plugin/layer_segments.h"

namespace memo::plugin {
namespace {

// For each layer, the number of calls up to the end of its forward side, and of its backward side.
struct LayerEnds {
  IndexedVector<model::LayerIndex, plan::Boundary> forward, backward;
};

LayerEnds layer_ends(const plan::Plan& plan) {
  const model::Dataflow& flow = plan.profile.flow;
  LayerEnds ends;
  ends.forward.resize(at(flow.layers));
  ends.backward.resize(at(flow.layers));
  for (const plan::CallIndex k : plan.program.calls.indices()) {
    const plan::Call& call = plan.program.calls[k];
    if (!flow.layered(call.segment)) continue;
    (call.phase == plan::Phase::forward ? ends.forward : ends.backward)[call.layer] = k + 1;
  }
  return ends;
}

// Rows padded to the plan's context, so that calls have the same shapes at every length. Padding comes last, where no
// token before it sees it.
at::Tensor padded(const at::Tensor& rows, std::int64_t context) {
  if (rows.size(0) == context) return rows.contiguous();
  at::Tensor all = at::zeros({context, rows.size(1)}, rows.options());
  all.narrow(0, 0, rows.size(0)).copy_(rows);
  return all;
}

}  // namespace

struct LayerSession::Impl {
  Impl(plan::Plan given, const model::LayerShape& shape, libtorch::ComputeDtype dtype, LayerCalls& called,
       const libtorch::AttentionKernel& attention, libtorch::Device& on, SessionMemory::Parts taken, bool watched)
      : plan(std::move(given)),
        calls(called),
        device(on),
        memory(std::move(taken)),
        segments(plan.profile.flow, shape, dtype.attention, calls, attention),
        runner(plan, memory.arena->data(), segments, dtype, nullptr, device),
        ends(layer_ends(plan)),
        watch(watched) {}
  ~Impl() {
    run.reset();
    segments.forget();
  }

  void begin_step() {
    exec::CopyEngine& copies = *memory.tiers->engine;
    std::byte* const arena = memory.arena->data();
    checked.reset();
    if (watch && !check) checked.emplace(plan, arena, runner, copies, device.bytes());
    run.emplace(plan.program, arena, checked ? checked->compute() : runner, checked ? checked->copies() : copies,
                plan.profile.flow);
    next = {};
    forward_ended = false;
    ++step;
  }
  [[nodiscard]] std::int64_t context() const { return plan.profile.flow.context.value(); }
  Status advance(plan::Boundary until) {
    if (const Status ran = run->advance(until); !ran) {
      if (const std::exception_ptr thrown = runner.take_exception()) calls.failed(thrown);
      segments.forget();
      return ran;
    }
    return {};
  }

  plan::Plan plan;
  LayerCalls& calls;
  libtorch::Device& device;
  SessionMemory::Parts memory;
  LayerSegments segments;
  libtorch::Runner runner;
  LayerEnds ends;
  bool watch;
  std::optional<exec::CheckedStep> checked;
  std::optional<exec::StepRun> run;
  std::optional<exec::StepReport> report;
  std::optional<exec::CheckReport> check;
  std::int64_t step = 0;
  model::LayerIndex next;
  bool forward_ended = false;
  Bytes peak;  // device_peak of a closed session
};

LayerSession::LayerSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LayerSession::~LayerSession() = default;

Result<std::unique_ptr<LayerSession>> LayerSession::open(plan::Plan plan, const model::LayerShape& shape,
                                                         libtorch::ComputeDtype dtype, const Take& take,
                                                         LayerCalls& calls, libtorch::Device& device, bool watch) {
  libtorch::install_allocator();
  libtorch::install_saved_tensor_hooks();
  MEMO_CHECKED(check::must_hold(plan));
  const model::Dataflow& flow = plan.profile.flow;
  const model::Dataflow own = layers_dataflow(shape, dtype, flow.groups, flow.context, flow.block);
  bool same = flow.layers == own.layers && flow.segments.size() == own.segments.size();
  for (const model::ClassIndex c : own.classes.indices())
    same = same && c < flow.classes.end_index() && flow.classes[c].role == own.classes[c].role &&
           flow.classes[c].row == own.classes[c].row;
  if (!same) return bad_input("the plan is for other layers; make a new plan");
  const auto kernels = libtorch::attention_kernels(device.of_tensors().type());
  MEMO_TRY(const libtorch::AttentionKernel* attention, libtorch::attention_named(kernels, plan.profile.attention));
  MEMO_TRY(SessionMemory::Parts memory, take(plan));
  return std::unique_ptr<LayerSession>(new LayerSession(
      std::make_unique<Impl>(std::move(plan), shape, dtype, calls, *attention, device, std::move(memory), watch)));
}

Result<std::unique_ptr<LayerSession>> LayerSession::open(plan::Plan plan, const model::LayerShape& shape,
                                                         libtorch::ComputeDtype dtype, const job::MemoryLimits& memory,
                                                         LayerCalls& calls, libtorch::Device& device, bool watch) {
  const auto take = [&](const plan::Plan& of) { return SessionMemory().take(of, memory, device); };
  return open(std::move(plan), shape, dtype, take, calls, device, watch);
}

void LayerSession::close() {
  Impl& s = *impl_;
  if (s.run && !s.run->ended()) return;
  s.run.reset();
  s.checked.reset();
  s.segments.forget();
  s.runner.begin_sequence({}, true);  // drops the graphs of a step that failed
  s.peak = device_peak();
  s.memory = {};
}

const plan::Plan& LayerSession::plan() const { return impl_->plan; }

Result<LayerOutputs> LayerSession::forward(model::LayerIndex layer, const at::Tensor& hidden) {
  Impl& s = *impl_;
  if (!s.memory.arena) return bad_input("the session is closed");
  if (layer == model::LayerIndex(0)) {
    s.run.reset();
    s.segments.forget();
    s.runner.begin_sequence({}, true);
    s.begin_step();
  }
  if (!s.run || s.run->ended() || s.forward_ended || layer != s.next)
    return bad_input(fmt::format("layer {} was called where layer {} was to follow", layer, s.next));
  if (hidden.size(0) > s.context())
    return bad_input(fmt::format("{} tokens, the plan is for {}", hidden.size(0), s.context()));
  const std::int64_t tokens = hidden.size(0);
  s.segments.begin_forward(padded(hidden, s.context()));
  const Status ran = s.advance(s.ends.forward[layer]);
  std::vector<at::Tensor> outputs = s.segments.take_outputs();
  MEMO_CHECKED(ran);
  s.forward_ended = ++s.next == model::LayerIndex(s.plan.profile.flow.layers);
  for (at::Tensor& output : outputs) output = output.narrow(0, 0, tokens);
  return LayerOutputs{outputs.front(), {outputs.begin() + 1, outputs.end()}};
}

Result<LayerGradients> LayerSession::backward(model::LayerIndex layer, const at::Tensor& d_output,
                                              const std::vector<at::Tensor>& d_extra_outputs,
                                              const std::vector<at::Tensor>& parameters) {
  Impl& s = *impl_;
  if (!s.run || s.run->ended())
    return run_time_error("backward a second time: what the first one read is gone; run forward again");
  if (!s.forward_ended || layer + 1 != s.next)
    return bad_input(fmt::format("backward of layer {} was called where it does not follow", layer));
  const at::Tensor d_hidden = at::empty({s.context(), d_output.size(1)}, d_output.options());
  std::vector<at::Tensor> d_outputs{padded(d_output, s.context())};
  for (const at::Tensor& d : d_extra_outputs) d_outputs.push_back(padded(d, s.context()));
  s.segments.begin_backward(std::move(d_outputs), d_hidden, parameters);
  const Status ran = s.advance(s.ends.backward[layer]);
  LayerGradients result{d_hidden.narrow(0, 0, d_output.size(0)), s.segments.take_gradients()};
  MEMO_CHECKED(ran);
  for (std::size_t i = 0; i < parameters.size(); ++i)  // one by one, since the sums take twice as much
    if (result.parameters[i].defined()) result.parameters[i] = result.parameters[i].to(parameters[i].scalar_type());
  s.segments.forget();
  s.next = layer;
  if (layer > model::LayerIndex(s.plan.profile.flow.forward_layers)) return result;
  MEMO_CHECKED(s.advance(s.plan.program.calls.end_index()));
  MEMO_TRY(s.report, s.run->finish());
  s.run.reset();
  if (s.checked) s.check = s.checked->report();
  s.checked.reset();
  return result;
}

std::int64_t LayerSession::step() const { return impl_->step; }
const std::optional<exec::StepReport>& LayerSession::report() const { return impl_->report; }
const std::optional<exec::CheckReport>& LayerSession::check() const { return impl_->check; }
Bytes LayerSession::device_peak() const {
  constexpr std::int64_t page = 4096;
  const Impl& s = *impl_;
  return s.memory.arena ? std::min(s.memory.arena->resident(), round_up(s.plan.program.arena, page)) : s.peak;
}
std::int64_t LayerSession::departure_count() const { return impl_->runner.departure_count(); }
const std::vector<std::string>& LayerSession::departures() const { return impl_->runner.departures(); }

}  // namespace memo::plugin
