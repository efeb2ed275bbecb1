// The sum of a step's token losses (natural log). A GPU's kernels add to a tensor, for which the host does not wait.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

namespace memo::libtorch {

struct LossSum {
  // On a GPU within work that the device runs, on whose stream all is in order.
  static LossSum on(at::Device device) {
    return {0, device.is_cpu() ? at::Tensor() : at::zeros({1}, at::dtype(at::kDouble).device(device))};
  }

  double host = 0;
  at::Tensor on_device;  // float64 [1]; undefined on the CPU

  void reset() {
    host = 0;
    if (on_device.defined()) on_device.zero_();
  }
  // The sum; waits for the device.
  [[nodiscard]] double value() const { return on_device.defined() ? on_device.item<double>() : host; }
};

}  // namespace memo::libtorch
