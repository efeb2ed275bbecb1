// Estimates memory and time of a setup: plans and simulates a micro-batch like a run, then multiplies over
// micro-batches, pipeline and GPUs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "memo/estimate/setup.h"

namespace memo::estimate {

struct StepSplit {  // seconds of a step, by cause
  double attention = 0, matmul = 0, memory = 0, reruns = 0, collectives = 0, stalls = 0, bubble = 0, update = 0;
};

struct Estimate {
  bool fits = false;
  std::string reason;  // what fills most of the device, or why the setup does not fit
  Bytes allocated;     // peak of tensors on one GPU
  Bytes least;         // where no plan fits the device: the least limit that one would fit
  Bytes reserved;      // peak with the runtime and, unless addresses are planned, the allocator's waste
  Bytes device_limit;  // limit for `reserved`
  Bytes host_per_node;
  std::vector<std::pair<std::string, Bytes>> kinds;  // parts of the peak on one GPU
  Seconds step;
  StepSplit split;
  double tokens_per_second_gpu = 0;
  double mfu_causal = 0, mfu_full = 0;  // shares of the data sheet's peak; recomputation does not count
};

// Bad input: degrees that contradict the model. `any_plan`: see planner::Request.
Result<Estimate> estimate(const Setup& setup, bool any_plan = false);

}  // namespace memo::estimate
