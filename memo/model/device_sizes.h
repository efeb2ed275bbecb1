// The sizes of a step's calls that suit a kind of device, where the user leaves them to Memo: token blocks, head
// groups, tiles of the loss. They decide in which order sums are taken, so a run keeps them.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/base/units.h"

namespace memo::model {

// A block's measured time for a token, in the calls before and after core attention, forward and backward.
struct BlockTime {
  Tokens block;
  Seconds per_token;
};
// The smallest block whose time is within a few percent of the least: larger ones take more memory.
Tokens best_block(const std::vector<BlockTime>& measured);

struct DeviceSizes {
  bool gpu = false;
  int threads = 1;  // of a CPU

  // Tokens per block: one, or several of which the profile measures the best; the smallest first. At most a quarter of
  // the context, so that placements can differ between blocks, and smaller for short contexts.
  [[nodiscard]] std::vector<Tokens> blocks(Tokens context) const;
  // Head groups: on a CPU as many as leave every thread a query head, on a GPU one, which a head's tiles fill.
  [[nodiscard]] int groups(std::int64_t heads, std::int64_t kv_heads) const;
  // Rows whose logits are computed together; `row` is a row of logits. Each tile reads the head's weight twice, and
  // reads and writes its float32 gradient. A CPU's caches ask for 8 MiB of logits, but at least 64 rows; a GPU takes a
  // block.
  [[nodiscard]] Tokens loss_tile(Tokens block, Bytes row) const;
};

}  // namespace memo::model
