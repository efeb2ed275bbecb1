// Weights, gradients and optimizer state of a model in three fixed regions of the arena.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "memo/job/job.h"
#include "memo/plan/for_job.h"
#include "memo/torch/decoder.h"

namespace memo::edge {

at::ScalarType scalar_type(job::DType dtype);

class ModelState {
 public:
  // `regions[i]` is memory for plan::fixed_memory()[i]; it must outlive the state.
  ModelState(const model::Shape& shape, job::DType dtype, const std::array<std::byte*, 3>& regions);

  [[nodiscard]] const std::vector<model::ParameterSpec>& specs() const { return specs_; }
  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  // float32; with a float32 model the values themselves.
  [[nodiscard]] const std::vector<at::Tensor>& masters() const { return masters_; }
  [[nodiscard]] const std::vector<at::Tensor>& first_moments() const { return first_; }
  [[nodiscard]] const std::vector<at::Tensor>& second_moments() const { return second_; }
  [[nodiscard]] std::int64_t parameter_count() const;

  void initialise(std::uint64_t seed);  // random weights as the specs say, zero moments
  void masters_changed();               // casts masters to the compute dtype
  void zero_gradients();
  // One optimizer step: clips the gradients, AdamW, casts. Returns the gradients' norm before clipping.
  double update(const job::TrainOptions& options, std::int64_t step, double lr);
  [[nodiscard]] std::uint64_t gradient_digest() const;

 private:
  std::vector<model::ParameterSpec> specs_;
  std::vector<Parameter> parameters_;
  std::vector<at::Tensor> masters_, first_, second_;
  double init_std_;
  std::int64_t layers_;
};

}  // namespace memo::edge
