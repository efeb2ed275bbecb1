// Finds the longest context of each strategy over numbers of GPUs, and its speed there.
#pragma once

#include <vector>

#include "memo/estimate/search.h"

namespace memo::estimate {

struct SweepCell {
  std::string strategy;
  int gpus = 0;
  Longest longest;
};

Result<std::vector<SweepCell>> sweep(const Task& task, const std::vector<Strategy>& strategies,
                                     const std::vector<int>& gpus, Tokens grain);

}  // namespace memo::estimate
