// Models what a profile would measure to choose sizes.
#include "memo/estimate/run_sizes.h"

#include <algorithm>

#include "memo/estimate/layer.h"

namespace memo::estimate {
namespace {

// The time of a token in the calls before and after core attention.
model::BlockTime time_of(Setup setup, Tokens block) {
  setup.block = block;
  const Layer layer(setup);
  double seconds = 0;
  for (const model::Segment& segment : layer.dataflow().segments)
    if (segment.stage == model::Stage::before || segment.stage == model::Stage::after)
      for (const bool backward : {false, true}) seconds += layer.time(segment, backward, block).total();
  return {block, Seconds(seconds / static_cast<double>(block.value()))};
}

}  // namespace

std::vector<model::BlockTime> choose_sizes(Setup& setup) {
  if (setup.groups == 0) setup.groups = setup.hardware.sizes.groups(setup.shape.heads, setup.shape.kv_heads);
  if (setup.block > Tokens(0)) {
    setup.block = std::min(setup.block, setup.context);
    return {};
  }
  std::vector<model::BlockTime> times;
  for (const Tokens block : setup.hardware.sizes.blocks(setup.context)) times.push_back(time_of(setup, block));
  setup.block = model::best_block(times);
  return times.size() > 1 ? times : std::vector<model::BlockTime>{};
}

std::vector<Setup> finer(const Setup& setup) {
  constexpr std::int64_t least_block = 128;
  std::vector<Setup> all;
  Setup next = setup;
  if (next.groups < setup.shape.kv_heads) {
    next.groups = static_cast<int>(setup.shape.kv_heads);
    all.push_back(next);
  }
  while (next.block.value() / 2 >= least_block) {
    next.block = Tokens(next.block.value() / 2);
    all.push_back(next);
  }
  return all;
}

}  // namespace memo::estimate
