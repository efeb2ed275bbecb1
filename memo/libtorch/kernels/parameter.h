// A parameter as kernels use it: its value, and the tensor that accumulates its gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace memo::libtorch {

struct Parameter {
  std::string name;     // of the ParameterSpec
  at::Tensor value;     // in the compute dtype, no requires_grad
  at::Tensor gradient;  // float32 sum; undefined for evaluation
};

}  // namespace memo::libtorch
