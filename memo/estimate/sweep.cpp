#include "memo/estimate/sweep.h"

namespace memo::estimate {

Result<std::vector<SweepCell>> sweep(const Task& task, const std::vector<Strategy>& strategies,
                                     const std::vector<int>& gpus, Tokens grain) {
  std::vector<SweepCell> cells;
  for (const Strategy& strategy : strategies)
    for (const int count : gpus) {
      Task here = task;
      here.gpus = count;
      SweepCell cell{strategy.name, count, {}, {}};
      MEMO_TRY(cell.longest, longest_context(here, strategy, grain));
      if (cell.longest > Tokens(0)) {
        here.context = cell.longest;
        here.most_planned = 2;  // those that longest_context looked at
        MEMO_TRY(Outcome outcome, search(here, {strategy}, 1));
        if (!outcome.best.empty()) cell.found = std::move(outcome.best.front());
      }
      cells.push_back(std::move(cell));
    }
  return cells;
}

}  // namespace memo::estimate
