// Measures what this machine computes a second, with training's kernels and number of threads: for estimates of runs on
// it.
#pragma once

#include "memo/base/units.h"
#include "memo/model/shape.h"

namespace memo::libtorch {

struct ComputeRates {
  double matmul = 0;  // FLOP/s of a layer's float32 products, forward and both products of backward
  double attention_forward = 0, attention_backward = 0;  // FLOP/s of the causal half, at long lengths
  double attention_half = 0;                             // tokens at which attention reaches half of its rate
  BytesPerSecond memory;                                 // bytes read and written by element-wise kernels
};

// Rates at a model's widths; each of five kernels runs for at least `each`.
ComputeRates measure_rates(const model::Shape& shape, Seconds each = Seconds(1));

}  // namespace memo::libtorch
