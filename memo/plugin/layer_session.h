// A plan of layers alone made ready to run: the rest of the model calls its layers one by one, forward and later
// backward, and the executor plays the program in between.
#pragma once

#include <ATen/core/Tensor.h>

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

namespace memo::plugin {

struct LayerOutputs {
  at::Tensor hidden;                      // [N, h]
  std::vector<at::Tensor> extra_outputs;  // [N, any] (memo/plugin/layer_calls.h)
};

struct LayerGradients {
  at::Tensor hidden;                   // [N, h]
  std::vector<at::Tensor> parameters;  // of their dtype; undefined where one took no part
};

class LayerSession {
 public:
  // The device and `calls` must outlive the session. `watch`: whether check mode watches the first step. Fails when the
  // plan does not hold, or memory or a tier cannot be had.
  static Result<std::unique_ptr<LayerSession>> open(plan::Plan plan, const model::LayerShape& shape,
                                                    libtorch::ComputeDtype dtype, const job::MemoryLimits& memory,
                                                    LayerCalls& calls, libtorch::Device& device, bool watch = true);
  ~LayerSession();

  [[nodiscard]] const plan::Plan& plan() const;

  // hidden [N, h], N at most the plan's context -> the layer's outputs. Layers come in order; layer 0 begins a
  // step, and abandons one that did not get to its end.
  Result<LayerOutputs> forward(int layer, const at::Tensor& hidden);
  // Layers come in reverse, down to the first that has a backward side (Dataflow::forward_layers); gradients of all
  // that `forward` gave. `parameters`: those of the layer that gradients are wanted for.
  Result<LayerGradients> backward(int layer, const at::Tensor& d_output, const std::vector<at::Tensor>& d_extra_outputs,
                                  const std::vector<at::Tensor>& parameters);
  // How many steps were begun: a backward belongs to the step of its forward only while this is unchanged.
  [[nodiscard]] std::int64_t step() const;

  // Of the last step that got to its end.
  [[nodiscard]] const std::optional<exec::StepReport>& report() const;
  // Of the first such step, where check mode watched it (memo/exec/checked_step.h).
  [[nodiscard]] const std::optional<exec::CheckReport>& check() const;
  // Pages of the arena that steps have touched.
  [[nodiscard]] Bytes device_peak() const;
  [[nodiscard]] std::int64_t departure_count() const;
  [[nodiscard]] const std::vector<std::string>& departures() const;

 private:
  struct Impl;
  explicit LayerSession(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace memo::plugin
