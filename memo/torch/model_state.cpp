#include "memo/torch/model_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/from_blob.h>

#include <cmath>

#include "memo/base/text.h"
#include "memo/torch/optimizer.h"

namespace memo::edge {
namespace {

// Cuts tensors from a region, one after another.
class Region {
 public:
  explicit Region(std::byte* memory) : memory_(memory) {}
  at::Tensor next(const model::ParameterSpec& spec, at::ScalarType dtype) {
    at::Tensor tensor = at::from_blob(memory_, spec.shape, at::TensorOptions().dtype(dtype));
    memory_ += plan::parameter_bytes(spec, static_cast<std::int64_t>(c10::elementSize(dtype))).value();
    return tensor;
  }

 private:
  std::byte* memory_;
};

}  // namespace

at::ScalarType scalar_type(job::DType dtype) { return dtype == job::DType::bfloat16 ? at::kBFloat16 : at::kFloat; }

ModelState::ModelState(const model::Shape& shape, job::DType dtype, const std::array<std::byte*, 3>& regions)
    : specs_(model::parameters(shape)), init_std_(shape.init_std), layers_(shape.layers) {
  Region weights(regions[0]), gradients(regions[1]), optimizer(regions[2]);
  for (const model::ParameterSpec& spec : specs_) {
    parameters_.push_back(
        {spec.name, weights.next(spec, scalar_type(dtype)), gradients.next(spec, at::kFloat)});
    first_.push_back(optimizer.next(spec, at::kFloat));
    second_.push_back(optimizer.next(spec, at::kFloat));
    masters_.push_back(dtype == job::DType::bfloat16 ? optimizer.next(spec, at::kFloat) : parameters_.back().value);
  }
}

std::int64_t ModelState::parameter_count() const {
  std::int64_t count = 0;
  for (const at::Tensor& master : masters_) count += master.numel();
  return count;
}

void ModelState::initialise(std::uint64_t seed) {
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  for (std::size_t i = 0; i < specs_.size(); ++i) {
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
  }
  masters_changed();
}

void ModelState::masters_changed() {
  for (std::size_t i = 0; i < specs_.size(); ++i)
    if (!masters_[i].is_same(parameters_[i].value)) parameters_[i].value.copy_(masters_[i]);
}

void ModelState::zero_gradients() {
  for (const Parameter& parameter : parameters_) parameter.gradient.zero_();
}

double ModelState::update(const job::TrainOptions& options, std::int64_t step, double lr) {
  std::vector<at::Tensor> gradients;
  std::vector<bool> decays;
  for (const Parameter& parameter : parameters_) gradients.push_back(parameter.gradient);
  for (const model::ParameterSpec& spec : specs_) decays.push_back(spec.decays);
  const double norm = clip_gradients(gradients, options.clip);
  const AdamW settings{lr, options.beta1, options.beta2, options.eps, options.weight_decay};
  adamw_step(settings, step, masters_, gradients, first_, second_, decays);
  masters_changed();
  return norm;
}

std::uint64_t ModelState::gradient_digest() const {
  std::uint64_t digest = fnv1a(nullptr, 0);
  for (const Parameter& parameter : parameters_)
    digest = fnv1a(parameter.gradient.const_data_ptr(), parameter.gradient.nbytes(), digest);
  return digest;
}

}  // namespace memo::edge
