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

// Parameters that enter and leave memory together: those of one stage (before or after) of a layer, or all that belong
// to no layer.
struct StateGroup {
  model::LayerIndex layer = model::LayerIndex::none();
  model::Stage stage = model::Stage::embedding;
  auto operator<=>(const StateGroup&) const = default;
};

// Memory of a group: its weights, gradients and optimizer state (model::state_bytes).
using StateRegions = std::array<std::byte*, 3>;

// Regions of all groups one after another, for a state that is in memory as a whole; the group of no layer comes first.
class WholeState {
 public:
  WholeState(const model::Shape& shape, job::DType dtype);
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  [[nodiscard]] StateRegions regions(std::byte* memory, const StateGroup& group) const;

 private:
  std::vector<std::pair<StateGroup, std::array<Bytes, 3>>> offsets_;
  Bytes bytes_;
};

// Moves groups that lie on a tier between steps: `fetch` into memory, `store` back. A group that the host updates lies
// in its memory as a whole; there `store` brings what memory has of it up to date.
class StatePager {
 public:
  virtual ~StatePager() = default;
  // The host's memory of a group that the host updates, else none.
  [[nodiscard]] virtual std::optional<StateRegions> on_host(const StateGroup& /*group*/) const { return {}; }
  virtual Status fetch(const StateGroup& group) = 0;
  virtual Status store(const StateGroup& group) = 0;
};

class ModelState {
 public:
  // `regions(group)` is memory of `device` that outlives the state; groups that are never in memory at once may share
  // it. `pager` outlives the state too; null: all groups stay in memory. On a GPU within work that the device runs.
  ModelState(const model::Shape& shape, job::DType dtype, const std::function<StateRegions(const StateGroup&)>& regions,
             StatePager* pager = nullptr, at::Device device = at::kCPU);

  [[nodiscard]] const std::vector<model::ParameterSpec>& specs() const { return specs_; }
  // The tensors of parameter i are valid while its group is in memory: see `bring`.
  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  // float32; in a float32 model these are the parameters' values themselves. They and the moments are tensors of the
  // CPU where the host updates.
  [[nodiscard]] const std::vector<at::Tensor>& masters() const { return masters_; }
  // Whether parameter i has a master beside its value.
  [[nodiscard]] bool has_master(std::size_t i) const { return parameters_[i].value.scalar_type() != at::kFloat; }
  [[nodiscard]] const std::vector<at::Tensor>& first_moments() const { return first_; }
  [[nodiscard]] const std::vector<at::Tensor>& second_moments() const { return second_; }
  [[nodiscard]] std::int64_t parameter_count() const;

  // Between steps: brings parameter i into memory, where it stays until another one is brought or a step begins.
  Status bring(std::size_t i);
  // Between steps: calls `change(i)` for every parameter in order, while it is in memory, to set masters and moments;
  // weights are then cast from the masters.
  Status change(const std::function<Status(std::size_t i)>& change);
  Status initialise(std::uint64_t seed);  // random weights by the specs, zero moments
  Result<std::uint64_t> gradient_digest();

  // Within a step, for groups that are in memory.
  void begin_step();  // zeroes the gradients that belong to no layer
  void zero_gradients(const StateGroup& group);
  void measure_gradients(const StateGroup& group);  // call when they are complete: adds their squares to the norm's
  // Whether a group may be updated. It may not from the first group on for which the `loss` or the gradients, as far as
  // they are known then, are not finite. On a GPU always true: there the update itself does nothing in such a step.
  bool accepts(const StateGroup& group, const job::TrainOptions& options, const LossSum& loss);
  // After `accepts`, for a group that the host updates: waits for what the update needs to know from the device.
  void bring_gate_to_host();
  // The optimizer's step for a group, after `accepts`: clips by the norm of all gradients, applies AdamW, casts.
  void update(const StateGroup& group, const job::TrainOptions& options, std::int64_t step, double lr);
  // Call after the last update. Waits once for the device and reads all that the step has left there; returns the loss.
  double end_step(const LossSum& loss);
  // After a step: the norm of its gradients before clipping.
  [[nodiscard]] double gradient_norm() const { return norm_.value_or(0); }
  [[nodiscard]] bool refused() const { return refused_; }  // whether some group of this step was not accepted
  [[nodiscard]] bool updated() const { return updated_; }  // whether some group was updated
  // The name of a parameter of the group whose measured gradient is not finite, or "".
  [[nodiscard]] std::string not_finite(const StateGroup& group) const;

 private:
  [[nodiscard]] StateGroup group_of(std::size_t i) const;
  [[nodiscard]] std::vector<std::size_t> members(const StateGroup& group) const;
  [[nodiscard]] Gate gate_on_device(const StateGroup& group, double max_norm, const LossSum& loss);
  // Parameter i where it is updated: on the host, or as `parameters()` has it.
  [[nodiscard]] const Parameter& updated(std::size_t i) const;
  void cast(std::size_t i);  // casts the master to the compute dtype

  std::vector<model::ParameterSpec> specs_;
  std::vector<Parameter> parameters_;
  std::vector<std::optional<Parameter>> on_host_;  // of groups that the host updates
  std::vector<at::Tensor> masters_, first_, second_;
  std::vector<double> squares_;  // sum of squares of each parameter's gradient
  // Their counterparts where the host does not wait: float64 [parameters], scratch of their sums, and float32 [1], 1
  // when an update was refused.
  at::Tensor squares_on_device_, partial_squares_, refused_on_device_;
  Gate gate_;  // from `accepts` to `update`; empty where the CPU is the device
  std::optional<double> norm_;
  bool refused_ = false, updated_ = false;
  std::optional<StateGroup> brought_;
  StatePager* pager_;
  double init_std_;
  std::int64_t layers_;
};

}  // namespace memo::libtorch
