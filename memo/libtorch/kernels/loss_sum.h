// The sum of a step's token losses (natural log). Kernels of a GPU add to a tensor of it, and the host goes on.
#pragma once

#include <ATen/core/Tensor.h>

namespace memo::libtorch {

struct LossSum {
  double host = 0;
  at::Tensor on_device;  // float64 [1]; undefined on the CPU

  void reset() {
    host = 0;
    if (on_device.defined()) on_device.zero_();
  }
  // Waits for the device.
  [[nodiscard]] double value() const { return on_device.defined() ? on_device.item<double>() : host; }
};

}  // namespace memo::libtorch
