// Runs the searches of a sweep.
#include "memo/estimate/sweep.h"

namespace memo::estimate {

Result<std::vector<SweepCell>> sweep(const Task& task, const std::vector<Strategy>& strategies,
                                     const std::vector<int>& gpus, Tokens grain) {
  std::vector<SweepCell> cells;
  for (const Strategy& strategy : strategies)
    for (const int count : gpus) {
      Task here = task;
      here.gpus = count;
      MEMO_TRY(Longest longest, longest_context(here, strategy, grain));
      cells.push_back({strategy.name, count, std::move(longest)});
    }
  return cells;
}

}  // namespace memo::estimate
