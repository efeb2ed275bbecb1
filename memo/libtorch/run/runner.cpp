// One call from views of its operands to settled results, and the translation of saved tensors to planned ones and
// back.
#include "memo/libtorch/run/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <stdexcept>

#include "memo/base/check.h"
#include "memo/base/index.h"

namespace memo::libtorch {
namespace {

constexpr std::size_t departures_kept = 20;

// For a contiguous tensor: infinities and NaN are the values whose exponent bits are all set.
bool all_finite(const at::Tensor& tensor) {
  if (!tensor.is_cpu()) return tensor.isfinite().all().item<bool>();
  const auto finite = [&]<class Word>(Word exponent) {
    const auto* words = static_cast<const Word*>(tensor.const_data_ptr());
    return std::all_of(words, words + tensor.numel(), [=](Word word) { return (word & exponent) != exponent; });
  };
  return tensor.scalar_type() == at::kFloat ? finite(std::uint32_t{0x7f800000}) : finite(std::uint16_t{0x7f80});
}

}  // namespace

Runner::Runner(const plan::Plan& plan, std::byte* arena, Segments& segments, ComputeDtype dtype, ModelState* state,
               Device& device)
    : plan_(plan),
      memory_(plan, arena, !device.of_tensors().is_cpu()),
      segments_(segments),
      dtype_(dtype),
      state_(state),
      device_(device) {
  if (state) find_gradients();
  gradients_of_.resize(plan.program.calls.size(), -1);
}

void Runner::find_gradients() {
  std::map<StateGroup, int> number;
  for (const plan::CallIndex k : plan_.program.calls.indices()) {
    const plan::Call& call = plan_.program.calls[k];
    const model::Stage stage = plan_.profile.flow.segments[call.segment].stage;
    const bool adds =
        call.phase == plan::Phase::backward && (stage == model::Stage::before || stage == model::Stage::after);
    gradients_of_.push_back(-1);
    if (!adds) continue;
    const StateGroup group{call.layer, stage};
    const auto [found, is_new] = number.try_emplace(group, static_cast<int>(gradients_.size()));
    if (is_new) gradients_.push_back({group, k, k});
    gradients_[at(found->second)].last = k;
    gradients_of_.back() = found->second;
  }
}

void Runner::begin_sequence(const Sample& sample, bool first) {
  first_sequence_ = first;
  graphs_.clear();
  sample_ = sample;
  if (!sample.tokens.defined()) return;
  MEMO_CHECK(sample.tokens.numel() == plan_.profile.flow.context.value(), "a sample has the plan's context");
  const auto here = [&](const at::Tensor& tensor) { return tensor.to(device_.of_tensors(), /*non_blocking=*/true); };
  device_.run([&] {
    sample_ = {here(sample.tokens), here(sample.targets), here(sample.positions), sample.document_starts};
  });
}

Status Runner::run(plan::CallIndex call) {
  try {
    device_.run([&] { run_call(call); });
    return {};
  } catch (const std::exception& error) {
    exception_ = std::current_exception();
    const std::string text = error.what();
    return run_time_error(fmt::format("{}: {}", name(call), text.substr(0, text.find('\n'))));
  }
}

void Runner::run_call(plan::CallIndex call) {
  const plan::Call& what = plan_.program.calls[call];
  current_ = call;
  const std::int64_t departures_before = departure_count_;
  const std::size_t kept_before = departures_.size();
  const bool backward = what.phase == plan::Phase::backward;
  const auto& segment = plan_.profile.flow.segments[what.segment];
  // The table's reads end with those added for saved tensors; only autograd asks for them, through unpack.
  const int number = gradients_of_[call];
  const Gradients* gradients = number < 0 ? nullptr : &gradients_[at(number)];
  if (gradients && first_sequence_ && gradients->first == call) state_->zero_gradients(gradients->group);
  std::vector<at::Tensor> reads;
  for (const PlannedOperand& operand : memory_.reads(call)) reads.push_back(view(operand));
  const Where place = where(what);
  const std::int64_t key = (std::int64_t{what.segment.value()} * (plan_.profile.flow.layers + 1) + what.layer.value()) *
                               plan_.profile.flow.blocks() +
                           std::max(what.block.value(), 0);
  const std::vector<PlannedRequest> requests = memory_.requests(call);
  PlannedScope planned(requests, device_.of_tensors().type(), segments_.least_planned());
  {
    const SavedTensorScope saving(*this);
    std::vector<at::Tensor> results;
    if (backward) {
      results = segments_.backward(what.segment, place, reads, graphs_[key]);
      graphs_.erase(key);
    } else {
      const bool keep_graph = what.phase == plan::Phase::forward && segment.has_backward();
      results = segments_.forward(what.segment, place, reads, keep_graph ? &graphs_[key] : nullptr);
    }
    settle(call, results);
  }
  check_held(call);
  reads.clear();
  if (gradients && gradients->last == call) state_->measure_gradients(gradients->group);
  if (looks_ && not_finite_.empty()) look_at_results(call, gradients && gradients->last == call ? gradients : nullptr);
  const bool may_outlive = segments_.external() && !backward && segment.stage == model::Stage::before;
  for (const Departure& departure : planned.finish())
    if (!(departure.kind == Departure::Kind::outlived && may_outlive)) note(call, describe(departure));
  if (planned.unused() > 0 && !(state_ && state_->refused()))
    note(call, fmt::format("{} planned requests were not made", planned.unused()));
  // External code may keep a tensor at an address that the plan has given to another.
  if (segments_.external() && departure_count_ > departures_before)
    throw std::runtime_error("it does not allocate what was recorded: " +
                             departures_[std::min(kept_before, departures_.size() - 1)]);
}

void Runner::look_for_not_finite(bool look) {
  looks_ = look;
  not_finite_.clear();
}

// `measured`: gradients that are complete with this call.
void Runner::look_at_results(plan::CallIndex call, const Gradients* measured) {
  for (const PlannedOperand& operand : memory_.writes(call))
    if (!all_finite(view(operand))) {
      not_finite_ = fmt::format("'{}' of {}", plan_.profile.flow.classes[operand.cls].name, name(call));
      return;
    }
  if (!std::isfinite(segments_.loss())) {
    not_finite_ = "the loss of " + name(call);
  } else if (measured && !state_->not_finite(measured->group).empty()) {
    not_finite_ = fmt::format("the gradient of {}, in {}", state_->not_finite(measured->group), name(call));
  }
}

// Moves each result to its planned place, unless it was allocated there.
void Runner::settle(plan::CallIndex call, const std::vector<at::Tensor>& results) {
  const auto writes = memory_.writes(call);
  MEMO_CHECK(results.size() <= writes.size(), "a call writes what its table says");
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].const_data_ptr() == writes[i].address) continue;
    note(call, fmt::format("class {} was not allocated at its planned address",
                           plan_.profile.flow.classes[writes[i].cls].name));
    const at::Tensor whole = results[i].contiguous();
    MEMO_CHECK(static_cast<std::int64_t>(whole.nbytes()) <= writes[i].bytes.value(), "a result has its class's size");
    tensor_at(writes[i].address, whole.sizes(), whole.scalar_type(), whole.device()).copy_(whole);
  }
}

Where Runner::where(const plan::Call& call) const {
  Where result;
  result.layer = call.layer;
  result.block = call.block;
  result.document_starts = sample_.document_starts;
  if (call.block.exists() && sample_.tokens.defined()) {
    const model::Dataflow& flow = plan_.profile.flow;
    const std::int64_t tokens = flow.block_tokens(call.block).value();
    const std::int64_t first = call.block.value() * flow.block.value();
    result.tokens = sample_.tokens.narrow(0, first, tokens);
    result.targets = sample_.targets.narrow(0, first, tokens);
    result.positions = sample_.positions.narrow(0, first, tokens);
  }
  return result;
}

at::Tensor Runner::view(const PlannedOperand& operand) const {
  const model::TensorClass& cls = plan_.profile.flow.classes[operand.cls];
  const at::ScalarType dtype = dtype_.of(cls);
  const std::int64_t columns = cls.row.value() / static_cast<std::int64_t>(c10::elementSize(dtype));
  return tensor_at(operand.address, {operand.tokens, columns}, dtype, device_.of_tensors());
}

std::optional<std::any> Runner::pack(const at::Tensor& tensor) {
  const auto* data = static_cast<const std::byte*>(tensor.const_data_ptr());
  for (const auto operands : {memory_.writes(current_), memory_.reads(current_)})
    for (const PlannedOperand& operand : operands)
      if (data >= operand.address && data < operand.address + operand.bytes.value())
        return Saved{operand.tensor, data - operand.address, tensor.sizes().vec(), tensor.strides().vec(),
                     tensor.scalar_type()};
  if (segments_.external() && !in_arena(data)) return std::nullopt;
  auto held = std::make_shared<const Held>(tensor, static_cast<std::int64_t>(tensor._version()));
  held_.push_back(held);
  return std::any(std::move(held));
}

// A tensor that external code saves and releases within the call is a transient; one that it still keeps is a
// departure.
void Runner::check_held(plan::CallIndex call) {
  for (const auto& seen : std::exchange(held_, {}))
    if (const auto held = seen.lock())
      note(call, fmt::format("autograd keeps {} bytes that the plan does not know", held->tensor.nbytes()));
}

at::Tensor Runner::unpack(const std::any& handle) {
  if (const auto* held = std::any_cast<std::shared_ptr<const Held>>(&handle)) {
    if (static_cast<std::int64_t>((*held)->tensor._version()) != (*held)->version)
      throw std::runtime_error("a tensor that backward needs was modified in place");
    return (*held)->tensor;
  }
  const auto& saved = std::any_cast<const Saved&>(handle);
  for (const PlannedOperand& operand : memory_.reads(current_))
    if (operand.tensor == saved.tensor)
      return tensor_at(operand.address + saved.byte_offset, saved.sizes, saved.strides, saved.dtype,
                       device_.of_tensors());
  // A graph of external code may lead to any tensor.
  if (segments_.external()) throw std::runtime_error("backward needs a tensor that another call saved");
  MEMO_CHECK(false, "a backward call reads what its forward call saved");
}

void Runner::note(plan::CallIndex call, const std::string& what) {
  ++departure_count_;
  if (departures_.size() < departures_kept) departures_.push_back(fmt::format("{}: {}", name(call), what));
}

std::string Runner::name(plan::CallIndex call) const {
  const plan::Call& what = plan_.program.calls[call];
  static constexpr const char* phases[] = {"", " backward", " rerun"};
  return fmt::format("{}{} (layer {}, {} {})", plan_.profile.flow.segments[what.segment].name,
                     phases[static_cast<int>(what.phase)], what.layer, what.block.exists() ? "block" : "head group",
                     what.block.exists() ? what.block.value() : what.group);
}

}  // namespace memo::libtorch
