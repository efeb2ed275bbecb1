// The sizes of a CPU and of a GPU.
#include "memo/model/device_sizes.h"

#include <algorithm>

#include "memo/base/check.h"

namespace memo::model {
namespace {

Tokens block_of(Tokens context, std::int64_t usual) {
  constexpr std::int64_t least = 64, fewest = 4;  // tokens, blocks
  std::int64_t block = usual;
  while (block > least && block * fewest > context.value()) block /= 2;
  return std::min(Tokens(block), context);
}

}  // namespace

Tokens best_block(const std::vector<BlockTime>& measured) {
  constexpr double within = 1.03;
  MEMO_CHECK(!measured.empty(), "some block was measured");
  const Seconds least = std::ranges::min(measured, {}, &BlockTime::per_token).per_token;
  Tokens best = std::ranges::max(measured, {}, &BlockTime::block).block;
  for (const BlockTime& each : measured)
    if (each.per_token <= least * within) best = std::min(best, each.block);
  return best;
}

std::vector<Tokens> DeviceSizes::blocks(Tokens context) const {
  constexpr std::int64_t smallest = 1024, largest = 8192;
  std::vector<Tokens> all{block_of(context, smallest)};
  for (std::int64_t usual = 2 * smallest; gpu && usual <= largest; usual *= 2)
    if (const Tokens block = block_of(context, usual); block > all.back()) all.push_back(block);
  return all;
}

int DeviceSizes::groups(std::int64_t heads, std::int64_t kv_heads) const {
  for (std::int64_t groups = gpu ? 1 : kv_heads; groups > 1; --groups)
    if (kv_heads % groups == 0 && heads / groups >= threads) return static_cast<int>(groups);
  return 1;
}

Tokens DeviceSizes::loss_tile(Tokens block, Bytes row) const {
  constexpr std::int64_t tile_bytes = 8 << 20, least_rows = 64;
  return gpu ? block : Tokens(std::max(least_rows, tile_bytes / row.value()));
}

}  // namespace memo::model
