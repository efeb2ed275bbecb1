#include "memo/torch/model_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/from_blob.h>

#include <cmath>
#include <map>
#include <numeric>

#include "memo/base/check.h"
#include "memo/base/text.h"
#include "memo/torch/optimizer.h"

namespace memo::edge {
namespace {

int element_bytes(job::DType dtype) { return dtype == job::DType::bfloat16 ? 2 : 4; }

// Cuts the next tensor from a region.
at::Tensor cut(std::byte*& memory, const model::ParameterSpec& spec, at::ScalarType dtype) {
  at::Tensor tensor = at::from_blob(memory, spec.shape, at::TensorOptions().dtype(dtype));
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
  for (int layer = 0; layer < static_cast<int>(shape.layers); ++layer)
    for (const model::Stage stage : {model::Stage::before, model::Stage::after}) add({layer, stage});
}

StateRegions WholeState::regions(std::byte* memory, const StateGroup& group) const {
  for (const auto& [found, offsets] : offsets_)
    if (found == group) return {memory + offsets[0].value(), memory + offsets[1].value(), memory + offsets[2].value()};
  MEMO_CHECK(false, "a group is one of the shape's");
}

ModelState::ModelState(const model::Shape& shape, job::DType dtype,
                       const std::function<StateRegions(const StateGroup&)>& regions, StatePager* pager)
    : specs_(model::parameters(shape)),
      squares_(specs_.size()),
      pager_(pager),
      init_std_(shape.init_std),
      layers_(shape.layers) {
  std::map<StateGroup, StateRegions> next;
  for (std::size_t i = 0; i < specs_.size(); ++i) {
    const model::ParameterSpec& spec = specs_[i];
    const StateGroup group = group_of(i);
    auto& [weights, gradients, optimizer] = next.try_emplace(group, regions(group)).first->second;
    parameters_.push_back({spec.name, cut(weights, spec, scalar_type(dtype)), cut(gradients, spec, at::kFloat)});
    first_.push_back(cut(optimizer, spec, at::kFloat));
    second_.push_back(cut(optimizer, spec, at::kFloat));
    masters_.push_back(dtype == job::DType::bfloat16 ? cut(optimizer, spec, at::kFloat) : parameters_.back().value);
  }
}

StateGroup ModelState::group_of(std::size_t i) const {
  return specs_[i].layer < 0 ? StateGroup{} : StateGroup{specs_[i].layer, specs_[i].stage};
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

void ModelState::cast(std::size_t i) {
  if (!masters_[i].is_same(parameters_[i].value)) parameters_[i].value.copy_(masters_[i]);
}

Status ModelState::bring(std::size_t i) {
  const StateGroup group = group_of(i);
  if (pager_ == nullptr || group.layer < 0 || brought_ == group) return {};
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
    if (pager_ != nullptr && group.layer >= 0 && last) MEMO_CHECKED(pager_->store(group));
  }
  return {};
}

Status ModelState::initialise(std::uint64_t seed) {
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  return change([&](std::size_t i) -> Status {
    switch (specs_[i].init) {
      case model::Init::normal:
        masters_[i].normal_(0, init_std_, generator);
        break;
      case model::Init::residual_normal:
        masters_[i].normal_(0, init_std_ / std::sqrt(2.0 * static_cast<double>(layers_)), generator);
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
    digest = fnv1a(parameters_[i].gradient.const_data_ptr(), parameters_[i].gradient.nbytes(), digest);
  }
  return digest;
}

void ModelState::begin_step() {
  brought_.reset();
  norm_.reset();
  refused_ = updated_ = false;
  zero_gradients({});
}

void ModelState::zero_gradients(const StateGroup& group) {
  for (const std::size_t i : members(group)) parameters_[i].gradient.zero_();
}

void ModelState::measure_gradients(const StateGroup& group) {
  for (const std::size_t i : members(group)) squares_[i] = sum_of_squares(parameters_[i].gradient);
}

std::string ModelState::not_finite(const StateGroup& group) const {
  for (const std::size_t i : members(group))
    if (!std::isfinite(squares_[i])) return specs_[i].name;
  return {};
}

void ModelState::update(const StateGroup& group, const job::TrainOptions& options, std::int64_t step, double lr,
                        double loss) {
  // Of updates that come early only the last, of no layer, finds all gradients measured.
  if (!norm_ && (options.clip > 0 || group == StateGroup{})) {
    measure_gradients({});
    norm_ = std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0));  // in the order of the parameters
  }
  refused_ |= !std::isfinite(loss) || (norm_ ? !std::isfinite(*norm_) : !not_finite(group).empty());
  if (refused_) return;
  updated_ = true;
  std::vector<at::Tensor> masters, gradients, first, second;
  std::vector<bool> decays;
  for (const std::size_t i : members(group)) {
    masters.push_back(masters_[i]);
    gradients.push_back(parameters_[i].gradient);
    first.push_back(first_[i]);
    second.push_back(second_[i]);
    decays.push_back(specs_[i].decays);
  }
  if (options.clip > 0) clip_gradients(gradients, *norm_, options.clip);
  const AdamW settings{lr, options.beta1, options.beta2, options.eps, options.weight_decay};
  adamw_step(settings, step, masters, gradients, first, second, decays);
  for (const std::size_t i : members(group)) cast(i);
}

}  // namespace memo::edge
