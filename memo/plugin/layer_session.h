// Plays a plan of layers alone: the rest of the model calls its layers one by one, forward and later backward, and each
// call plays the program up to that layer's end.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memo/exec/checked_step.h"
#include "memo/exec/executor.h"
#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/libtorch/model/segments.h"
#include "memo/plan/plan.h"
#include "memo/plugin/layer_calls.h"
#include "memo/plugin/session_memory.h"

namespace memo::plugin {

struct LayerOutputs {
  at::Tensor hidden;                      // [N, h]
  std::vector<at::Tensor> extra_outputs;  // [N, any] each (memo/plugin/layer_calls.h)
};

struct LayerGradients {
  at::Tensor hidden;                   // [N, h]
  std::vector<at::Tensor> parameters;  // of the parameters' dtypes; undefined for a parameter that was not used
};

class LayerSession {
 public:
  // The device and `calls` must outlive the session. `take`: gives the plan's memory. `watch`: whether check mode
  // watches the first step. Fails when the plan does not validate, or when memory or a tier cannot be had.
  using Take = std::function<Result<SessionMemory::Parts>(const plan::Plan& plan)>;
  static Result<std::unique_ptr<LayerSession>> open(plan::Plan plan, const model::LayerShape& shape,
                                                    libtorch::ComputeDtype dtype, const Take& take, LayerCalls& calls,
                                                    libtorch::Device& device, bool watch = true);
  // With memory of its own.
  static Result<std::unique_ptr<LayerSession>> open(plan::Plan plan, const model::LayerShape& shape,
                                                    libtorch::ComputeDtype dtype, const job::MemoryLimits& memory,
                                                    LayerCalls& calls, libtorch::Device& device, bool watch = true);
  ~LayerSession();
  // Gives its memory back, and runs no more calls. A session whose step may go on keeps it until it is destroyed.
  void close();

  [[nodiscard]] const plan::Plan& plan() const;

  // hidden [N, h], N at most the plan's context -> the layer's outputs. Call layers in order; layer 0 begins a step,
  // and abandons an unfinished one.
  Result<LayerOutputs> forward(model::LayerIndex layer, const at::Tensor& hidden);
  // Gradients of the layer's input and of `parameters`, its trained ones, from the gradients of all outputs of
  // `forward`. Call layers in reverse order, down to the first that has a backward side (Dataflow::forward_layers).
  Result<LayerGradients> backward(model::LayerIndex layer, const at::Tensor& d_output,
                                  const std::vector<at::Tensor>& d_extra_outputs,
                                  const std::vector<at::Tensor>& parameters);
  // The number of steps begun: a backward belongs to its forward's step only while this is unchanged.
  [[nodiscard]] std::int64_t step() const;

  // The report of the last step that was finished.
  [[nodiscard]] const std::optional<exec::StepReport>& report() const;
  // Check mode's report of the first step, where it was watched and finished (memo/exec/checked_step.h).
  [[nodiscard]] const std::optional<exec::CheckReport>& check() const;
  // Bytes of the arena's pages that steps have touched.
  [[nodiscard]] Bytes device_peak() const;
  [[nodiscard]] std::int64_t departure_count() const;
  [[nodiscard]] const std::vector<std::string>& departures() const;

 private:
  struct Impl;
  explicit LayerSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace memo::plugin
