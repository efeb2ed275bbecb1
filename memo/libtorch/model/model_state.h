// Weights, gradients and optimizer state of a model, at the addresses that a plan gives them.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/job/job.h"
#include "memo/libtorch/kernels/loss_sum.h"
#include "memo/libtorch/model/decoder.h"
#include "memo/libtorch/model/optimizer.h"
#include "memo/model/parameters.h"

namespace memo::libtorch {

at::ScalarType scalar_type(job::DType dtype);

// Parameters that come and go together: those of one layer's stage (before or after), or of no layer.
struct StateGroup {
  model::LayerIndex layer = model::LayerIndex::none();
  model::Stage stage = model::Stage::embedding;
  auto operator<=>(const StateGroup&) const = default;
};

// Memory of a group: weights, gradients, optimizer (model::state_bytes).
using StateRegions = std::array<std::byte*, 3>;

// One region after another from `memory` on, when all is in memory: every group's, that of no layer first.
class WholeState {
 public:
  WholeState(const model::Shape& shape, job::DType dtype);
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  [[nodiscard]] StateRegions regions(std::byte* memory, const StateGroup& group) const;

 private:
  std::vector<std::pair<StateGroup, std::array<Bytes, 3>>> offsets_;
  Bytes bytes_;
};

// Brings groups that are on a tier between steps into memory.
class StatePager {
 public:
  virtual ~StatePager() = default;
  virtual Status fetch(const StateGroup& group) = 0;
  virtual Status store(const StateGroup& group) = 0;
};

class ModelState {
 public:
  // `regions(group)` is memory of `device` that outlives the state; groups that never are in memory at once may share
  // it. `pager` (none: all stay in memory) outlives the state too.
  ModelState(const model::Shape& shape, job::DType dtype, const std::function<StateRegions(const StateGroup&)>& regions,
             StatePager* pager = nullptr, at::Device device = at::kCPU);

  [[nodiscard]] const std::vector<model::ParameterSpec>& specs() const { return specs_; }
  // The tensors of parameter i have their content while its group is in memory: see `bring`.
  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  // float32; with a float32 model the values themselves.
  [[nodiscard]] const std::vector<at::Tensor>& masters() const { return masters_; }
  [[nodiscard]] const std::vector<at::Tensor>& first_moments() const { return first_; }
  [[nodiscard]] const std::vector<at::Tensor>& second_moments() const { return second_; }
  [[nodiscard]] std::int64_t parameter_count() const;

  // Between steps. Parameter i comes into memory, and stays until another one is brought or a step begins.
  Status bring(std::size_t i);
  // Every parameter in order: in memory while `change(i)` sets masters and moments; weights follow the masters.
  Status change(const std::function<Status(std::size_t i)>& change);
  Status initialise(std::uint64_t seed);  // random weights as the specs say, zero moments
  Result<std::uint64_t> gradient_digest();

  // Within a step, on groups that are in memory.
  void begin_step();  // zeroes the gradients of no layer
  void zero_gradients(const StateGroup& group);
  void measure_gradients(const StateGroup& group);  // complete now: their squares count for the norm
  // Whether a group may be updated: no, from the first group on of a step whose `loss` or whose gradients are not
  // finite, as far as they are known then. On a GPU always yes: there the update itself then does nothing.
  bool accepts(const StateGroup& group, const job::TrainOptions& options, const LossSum& loss);
  // The optimizer's step of a group, after `accepts`: clips by the norm of all gradients, AdamW, casts.
  void update(const StateGroup& group, const job::TrainOptions& options, std::int64_t step, double lr);
  void end_step();  // after the last update; waits for the device
  // Of the step that has ended: the gradients' norm before clipping.
  [[nodiscard]] double gradient_norm() const { return norm_.value_or(0); }
  [[nodiscard]] bool refused() const { return refused_; }  // a group of this step was not accepted
  [[nodiscard]] bool updated() const { return updated_; }  // one was updated
  // The name of a parameter of the group whose measured gradient is not finite, or "".
  [[nodiscard]] std::string not_finite(const StateGroup& group) const;

 private:
  [[nodiscard]] StateGroup group_of(std::size_t i) const;
  [[nodiscard]] std::vector<std::size_t> members(const StateGroup& group) const;
  [[nodiscard]] Gate gate_on_device(const StateGroup& group, double max_norm, const LossSum& loss);
  void cast(std::size_t i);  // the master to the compute dtype

  std::vector<model::ParameterSpec> specs_;
  std::vector<Parameter> parameters_;
  std::vector<at::Tensor> masters_, first_, second_;
  std::vector<double> squares_;  // of the gradients of each parameter
  // The same where the host does not wait: float64 [parameters], and float32 [1]: 1 when an update was refused.
  at::Tensor squares_on_device_, refused_on_device_;
  Gate gate_;  // of the update that comes next; empty on the CPU
  std::optional<double> norm_;
  bool refused_ = false, updated_ = false;
  std::optional<StateGroup> brought_;
  StatePager* pager_;
  double init_std_;
  std::int64_t layers_;
};

}  // namespace memo::libtorch
