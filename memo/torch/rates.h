// What this machine computes, by the kernels that training uses and in as many threads: for estimates of runs here.
#pragma once

#include "memo/base/units.h"

namespace memo::edge {

struct ComputeRates {
  double matmul = 0;                                     // FLOP/s of float32 products
  double attention_forward = 0, attention_backward = 0;  // FLOP/s of the causal half, at long lengths
  double attention_half = 0;                             // tokens at which attention reaches half of that
  BytesPerSecond memory;                                 // read and written by element-wise kernels
};

// For about two seconds.
ComputeRates measure_rates();

}  // namespace memo::edge
