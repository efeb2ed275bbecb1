// A parameter as kernels meet it: its value, and where its gradient accumulates.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace memo::libtorch {

struct Parameter {
  std::string name;     // of the ParameterSpec
  at::Tensor value;     // in the compute dtype, no requires_grad
  at::Tensor gradient;  // float32, accumulated into; undefined for evaluation
};

}  // namespace memo::libtorch
