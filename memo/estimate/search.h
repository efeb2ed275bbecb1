// Degrees of parallelism and strategies tried for one model, context and cluster, by one planner.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memo/estimate/estimate.h"
#include "memo/estimate/strategies.h"

namespace memo::estimate {

struct Task {
  std::string model_name;
  model::Shape shape;
  Hardware hardware;
  int gpus = 1;
  Tokens context;
  std::int64_t batch = 0;  // sequences a step; 0: one for each data parallel rank
  bool fp8 = false, float32 = false;
  Tokens block;  // of Memo's executor; 0: the usual one
  std::string attention;
  // In place of what a strategy takes.
  std::optional<Recompute> recompute;
  std::optional<Shard> shard;
  bool offload_inputs = false;
  bool any_plan = false;            // that fits, not the fastest
  std::size_t most_planned = 1000;  // ways that are planned, those that need the least memory
  std::optional<Degrees> degrees;   // none: all that the strategy's users would try
};

struct Found {
  std::string strategy;
  Setup setup;
  Estimate estimate;
};

struct Outcome {
  std::vector<Found> best;       // that fit, the fastest per token first, at most `most`
  std::optional<Found> near;     // where none fits: the one that is least over
  std::vector<Found> others;     // the best, or least over, of each strategy that is not among them
  int tried = 0, ruled_out = 0;  // planned; known to be too large or slower than the best without a plan
};

// The best of the given strategies and degrees. Bad input: given degrees that contradict the model.
Result<Outcome> search(const Task& task, const std::vector<Strategy>& strategies, std::size_t most);

struct Longest {
  Tokens context;              // 0: none fits
  std::optional<Found> found;  // at that context
};

// The longest context, a multiple of `grain` tokens, at which a strategy fits, to within a sixteenth. Only the ways
// that need the least memory are planned.
Result<Longest> longest_context(Task task, const Strategy& strategy, Tokens grain);

}  // namespace memo::estimate
