// Searches degrees of parallelism and strategies for one model, context and cluster.
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
  std::int64_t batch = 0;  // sequences per step; 0: one for each data parallel rank
  bool fp8 = false, float32 = false;
  Tokens block;  // of Memo's executor; 0: the usual block
  std::string attention;
  // These replace a strategy's own choices.
  std::optional<Recompute> recompute;
  std::optional<Shard> shard;
  bool offload_inputs = false;
  bool any_plan = false;            // any plan that fits, not the fastest
  std::size_t most_planned = 1000;  // number of ways to plan: those that need the least memory
  std::optional<Degrees> degrees;   // none: all degrees that the strategy's users would try
};

struct Found {
  std::string strategy;
  Setup setup;
  Estimate estimate;
};

struct Outcome {
  std::vector<Found> best;       // ways that fit, the fastest per token first, at most `most`
  std::optional<Found> near;     // if none fits: the one closest to fitting
  std::vector<Found> others;     // for each other strategy: its best way, or the closest
  int tried = 0, ruled_out = 0;  // planned; ruled out without a plan as too large, or as slower than the best
};

// The best ways with the given strategies and degrees. Bad input: given degrees that contradict the model.
Result<Outcome> search(const Task& task, const std::vector<Strategy>& strategies, std::size_t most);

struct Longest {
  Tokens context;              // 0: none fits
  std::optional<Found> found;  // at this context
};

// The longest context, a multiple of `grain` tokens, at which a strategy fits, to within a sixteenth. Plans only the
// ways that need the least memory.
Result<Longest> longest_context(Task task, const Strategy& strategy, Tokens grain);

}  // namespace memo::estimate
