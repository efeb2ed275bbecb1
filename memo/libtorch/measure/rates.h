// What this machine computes, by the kernels that training uses and in as many threads: for estimates of runs here.
#pragma once

#include "memo/base/units.h"
#include "memo/model/shape.h"

namespace memo::libtorch {

struct ComputeRates {
  double matmul = 0;  // FLOP/s of a layer's float32 products, forward and both of backward
  double attention_forward = 0, attention_backward = 0;  // FLOP/s of the causal half, at long lengths
  double attention_half = 0;                             // tokens at which attention reaches half of that
  BytesPerSecond memory;                                 // read and written by element-wise kernels
};

// Of a model's widths; each of five kernels runs for at least `each`.
ComputeRates measure_rates(const model::Shape& shape, Seconds each = Seconds(1));

}  // namespace memo::libtorch
