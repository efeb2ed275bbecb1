// Lays parameters out in their regions, initialises and updates them, and measures their gradients.
#include "memo/libtorch/model/model_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <map>
#include <numeric>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/libtorch/kernels/kernels.h"
#include "memo/libtorch/memory/device.h"

namespace memo::libtorch {
namespace {

int element_bytes(job::DType dtype) { return dtype == job::DType::bfloat16 ? 2 : 4; }

// Cuts the next tensor from a region.
at::Tensor cut(std::byte*& memory, const model::ParameterSpec& spec, at::ScalarType dtype, at::Device device) {
  at::Tensor tensor = tensor_at(memory, spec.shape, dtype, device);
  memory += model::parameter_bytes(spec, static_cast<std::int64_t>(c10::elementSize(dtype))).value();
  return tensor;
}

}  // namespace

at::ScalarType scalar_type(job::DType dtype) { return dtype == job::DType::bfloat16 ? at::kBFloat16 : at::kFloat; }

WholeState::WholeState(const model::Shape& shape, job::DType dtype) {
  const auto add = [&](const StateGroup& group) {
    const model::StateBytes state = model::state_bytes(shape, element_bytes(dtype), group.layer, group.stage);
    std::array<Bytes, 3> offsets{};
    const std::array<Bytes, 3> sizes{state.weights, state.gradients, state.optimizer};
    for (std::size_t kind = 0; kind < 3; ++kind) {
      offsets[kind] = bytes_;
      bytes_ += sizes[kind];
    }
    offsets_.emplace_back(group, offsets);
  };
  add({});
  for (const model::LayerIndex layer : indices<model::LayerIndex>(static_cast<int>(shape.layers)))
    for (const model::Stage stage : {model::Stage::before, model::Stage::after}) add({layer, stage});
}

StateRegions WholeState::regions(std::byte* memory, const StateGroup& group) const {
  for (const auto& [found, offsets] : offsets_)
    if (found == group) return {memory + offsets[0].value(), memory + offsets[1].value(), memory + offsets[2].value()};
  MEMO_CHECK(false, "a group is one of the shape's");
}

ModelState::ModelState(const model::Shape& shape, job::DType dtype,
                       const std::function<StateRegions(const StateGroup&)>& regions, StatePager* pager,
                       at::Device device)
    : specs_(model::parameters(shape)),
      squares_(specs_.size()),
      pager_(pager),
      init_std_(shape.init_std),
      layers_(shape.layers) {
  if (!device.is_cpu()) {
    squares_on_device_ = at::zeros({static_cast<std::int64_t>(specs_.size())}, at::dtype(at::kDouble).device(device));
    partial_squares_ = at::empty({square_sums}, squares_on_device_.options());
    refused_on_device_ = at::zeros({1}, at::dtype(at::kFloat).device(device));
  }
  std::map<StateGroup, StateRegions> next;
  std::map<StateGroup, std::optional<StateRegions>> next_on_host;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const model::ParameterSpec& spec = specs_[i];
    const StateGroup group = group_of(i);
    StateRegions& memory = next.try_emplace(group, regions(group)).first->second;
    const auto parameter = [&](StateRegions& from, at::Device place) {
      return Parameter{spec.name, cut(from[0], spec, scalar_type(dtype), place), cut(from[1], spec, at::kFloat, place)};
    };
    parameters_.push_back(parameter(memory, device));
    std::optional<StateRegions>& host =
        next_on_host.try_emplace(group, pager ? pager->on_host(group) : std::nullopt).first->second;
    on_host_.emplace_back();
    if (host) on_host_.back() = parameter(*host, at::kCPU);
    const auto floats = [&] {
      return host ? cut((*host)[2], spec, at::kFloat, at::kCPU) : cut(memory[2], spec, at::kFloat, device);
    };
    first_.push_back(floats());
    second_.push_back(floats());
    masters_.push_back(has_master(i) ? floats() : updated(i).value);
  }
}

StateGroup ModelState::group_of(std::size_t i) const {
  return !specs_[i].layer.exists() ? StateGroup{} : StateGroup{specs_[i].layer, specs_[i].stage};
}

std::vector<std::size_t> ModelState::members(const StateGroup& group) const {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < specs_.size(); ++i)
    if (group_of(i) == group) result.push_back(i);
  return result;
}

std::int64_t ModelState::parameter_count() const {
  std::int64_t count = 0;
  for (const at::Tensor& master : masters_) count += master.numel();
  return count;
}

const Parameter& ModelState::updated(std::size_t i) const { return on_host_[i] ? *on_host_[i] : parameters_[i]; }

void ModelState::cast(std::size_t i) {
  const at::Tensor& value = updated(i).value;
  if (!masters_[i].is_same(value)) value.copy_(masters_[i]);
}

Status ModelState::bring(std::size_t i) {
  const StateGroup group = group_of(i);
  if (pager_ == nullptr || !group.layer.exists() || brought_ == group) return {};
  MEMO_CHECKED(pager_->fetch(group));
  brought_ = group;
  return {};
}

Status ModelState::change(const std::function<Status(std::size_t i)>& change) {
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    MEMO_CHECKED(bring(i));
    MEMO_CHECKED(change(i));
    cast(i);
    const StateGroup group = group_of(i);
    const bool last = i + 1 == specs_.size() || group_of(i + 1) != group;
    if (pager_ != nullptr && group.layer.exists() && last) MEMO_CHECKED(pager_->store(group));
  }
  return {};
}

Status ModelState::initialise(std::uint64_t seed) {
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  // The CPU's generator, so that every device has the same numbers.
  const auto normal = [&](at::Tensor& to, double std) {
    if (to.is_cpu()) {
      to.normal_(0, std, generator);
    } else {
      to.copy_(at::empty(to.sizes(), at::kFloat).normal_(0, std, generator));
    }
  };
  return change([&](std::size_t i) -> Status {
    switch (specs_[i].init) {
      case model::Init::normal:
        normal(masters_[i], init_std_);
        break;
      case model::Init::residual_normal:
        normal(masters_[i], init_std_ / std::sqrt(2.0 * static_cast<double>(layers_)));
        break;
      case model::Init::zero:
        masters_[i].zero_();
        break;
      case model::Init::one:
        masters_[i].fill_(1);
        break;
    }
    first_[i].zero_();
    second_[i].zero_();
    return {};
  });
}

Result<std::uint64_t> ModelState::gradient_digest() {
  std::uint64_t digest = fnv1a(nullptr, 0);
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    MEMO_CHECKED(bring(i));
    const at::Tensor gradient = parameters_[i].gradient.cpu();
    digest = fnv1a(gradient.const_data_ptr(), gradient.nbytes(), digest);
  }
  return digest;
}

void ModelState::begin_step() {
  brought_.reset();
  norm_.reset();
  refused_ = updated_ = false;
  if (refused_on_device_.defined()) refused_on_device_.zero_();
  zero_gradients({});
}

void ModelState::zero_gradients(const StateGroup& group) {
  for (const std::size_t i : members(group)) parameters_[i].gradient.zero_();
}

void ModelState::measure_gradients(const StateGroup& group) {
  for (const std::size_t i : members(group)) {
    const at::Tensor& gradient = parameters_[i].gradient;
    if (gradient.is_cpu()) {
      squares_[i] = sum_of_squares(gradient);
    } else {
      sum_squares(gradient, partial_squares_, squares_on_device_.narrow(0, static_cast<std::int64_t>(i), 1));
    }
  }
}

std::string ModelState::not_finite(const StateGroup& group) const {
  for (const std::size_t i : members(group)) {
    const double square =
        squares_on_device_.defined() ? squares_on_device_[static_cast<std::int64_t>(i)].item<double>() : squares_[i];
    if (!std::isfinite(square)) return specs_[i].name;
  }
  return {};
}

// Uses the squares of all gradients, or only the group's where some are still missing.
Gate ModelState::gate_on_device(const StateGroup& group, double max_norm, const LossSum& loss) {
  const std::vector<std::size_t> own = members(group);
  const bool all = max_norm > 0 || group == StateGroup{};
  MEMO_CHECK(own.back() - own.front() + 1 == own.size() || all, "a group's parameters follow each other");
  Gate gate = gate_of(
      all ? squares_on_device_
          : squares_on_device_.narrow(0, static_cast<std::int64_t>(own.front()), static_cast<std::int64_t>(own.size())),
      loss.on_device, max_norm);
  refused_on_device_.copy_(at::maximum(refused_on_device_, *gate.refused));
  gate.refused = refused_on_device_;
  return gate;
}

double ModelState::end_step(const LossSum& loss) {
  if (!squares_on_device_.defined()) return loss.host;
  gate_ = {};
  const at::Tensor square = squares_on_device_.sum().reshape({1});
  const at::Tensor all = at::cat({loss.on_device, square, refused_on_device_.to(at::kDouble)}).cpu();
  const double* values = all.const_data_ptr<double>();
  norm_ = std::sqrt(values[1]);
  refused_ = values[2] > 0;
  updated_ = !refused_;
  return values[0];
}

bool ModelState::accepts(const StateGroup& group, const job::TrainOptions& options, const LossSum& loss) {
  // Of early updates only the last, that of no layer, has the squares of all gradients.
  if (!norm_ && (options.clip > 0 || group == StateGroup{})) {
    measure_gradients({});
    norm_ = std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0));  // summed in the order of the parameters
  }
  if (squares_on_device_.defined()) {
    gate_ = gate_on_device(group, options.clip, loss);
    return true;
  }
  refused_ |= !std::isfinite(loss.host) || (norm_ ? !std::isfinite(*norm_) : !not_finite(group).empty());
  return !refused_;
}

void ModelState::bring_gate_to_host() {
  if (gate_.divisor) gate_.divisor = gate_.divisor->cpu();
  if (gate_.refused) gate_.refused = gate_.refused->cpu();
}

void ModelState::update(const StateGroup& group, const job::TrainOptions& options, std::int64_t step, double lr) {
  updated_ = true;
  std::vector<at::Tensor> masters, gradients, first, second;
  std::vector<bool> decays;
  for (const std::size_t i : members(group)) {
    masters.push_back(masters_[i]);
    gradients.push_back(updated(i).gradient);
    first.push_back(first_[i]);
    second.push_back(second_[i]);
    decays.push_back(specs_[i].decays);
  }
  if (!gate_.refused && options.clip > 0) clip_gradients(gradients, *norm_, options.clip);
  const AdamW settings{lr, options.beta1, options.beta2, options.eps, options.weight_decay};
  adamw_step(settings, step, masters, gradients, first, second, decays, gate_);
  for (const std::size_t i : members(group)) cast(i);
  gate_ = {};  // its memory is the call's
}

}  // namespace memo::libtorch
