// What a setup would need and take: planned and simulated like a run, then multiplied over micro-batches, pipeline and
// GPUs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "memo/estimate/setup.h"

namespace memo::estimate {

struct StepSplit {  // seconds of a step
  double attention = 0, matmul = 0, memory = 0, recompute = 0, collectives = 0, stalls = 0, bubble = 0, update = 0;
};

struct Estimate {
  bool fits = false;
  std::string reason;  // what fills the device, or why it does not fit
  Bytes allocated;     // peak on one GPU, of tensors
  Bytes reserved;      // with the runtime, and what its allocator wastes unless addresses are planned
  Bytes device_limit;  // what may be reserved
  Bytes host_per_node;
  std::vector<std::pair<std::string, Bytes>> kinds;  // of the peak on one GPU
  Seconds step;
  StepSplit split;
  double tokens_per_second_gpu = 0;
  double mfu_causal = 0, mfu_full = 0;  // of the data sheet's peak, recomputation not counted
};

// Bad input: degrees that contradict the model. `any_plan`: see planner::Request.
Result<Estimate> estimate(const Setup& setup, bool any_plan = false);

}  // namespace memo::estimate
