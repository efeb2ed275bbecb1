// Exchanges of heads and tokens between ranks, overlapped with attention.
#include "memo/plugin/split_attention.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "memo/base/check.h"
#include "memo/libtorch/memory/allocator.h"
#include "memo/libtorch/memory/device.h"

namespace memo::plugin {
namespace {

// Columns [S, heads D] of queries or keys.
struct Columns {
  at::Tensor all;
  std::int64_t heads;
};

// The division of a group's heads over ranks. Each rank has some queries and their keys; where keys are fewer than
// ranks, ranks share them. A rank works on one of its keys in each turn. Meanwhile the next turn's rows and the last
// turn's results are under way.
class Turns {
 public:
  Turns(const libtorch::GroupHeads& group, LayerCalls& calls) : group_(group), calls_(calls), ranks_(calls.ranks()) {
    MEMO_CHECK(group.queries % ranks_ == 0 && (group.keys % ranks_ == 0 || ranks_ % group.keys == 0),
               "ranks divide a group's heads");
  }
  [[nodiscard]] std::int64_t count() const { return std::max<std::int64_t>(1, group_.keys / ranks_); }
  [[nodiscard]] libtorch::GroupHeads heads() const {
    return {group_.queries / ranks_ / count(), 1, group_.dim, group_.softcap};
  }
  [[nodiscard]] Columns queries(const at::Tensor& all) const { return {all, group_.queries}; }
  [[nodiscard]] Columns keys(const at::Tensor& all) const { return {all, group_.keys}; }
  // The three parts of qkv [S, (queries + 2 keys) D].
  [[nodiscard]] std::vector<Columns> parts(const at::Tensor& qkv) const {
    const std::int64_t query = group_.queries * group_.dim, key = group_.keys * group_.dim;
    return {queries(qkv.narrow(1, 0, query)), keys(qkv.narrow(1, query, key)), keys(qkv.narrow(1, query + key, key))};
  }

  // Begins to send each rank the columns of its heads. After `end`, the result holds this rank's heads for all tokens,
  // [ranks S, ...].
  at::Tensor to_heads(const std::vector<Columns>& parts, std::int64_t turn) {
    const std::int64_t tokens = parts.front().all.size(0);
    std::int64_t width = 0, at_column = 0;
    for (const Columns& part : parts) width += own_columns(part);
    const at::Tensor send = at::empty({ranks_, tokens, width}, parts.front().all.options());
    for (const Columns& part : parts) {
      const at::Tensor to = send.narrow(2, at_column, own_columns(part)).unflatten(0, {owners(part), copies(part)});
      to.copy_(of_turn(part, turn).permute({1, 0, 2}).unsqueeze(1).expand_as(to));
      at_column += own_columns(part);
    }
    return begin(send);
  }

  // Begins the exchange back to tokens: sends rows [ranks S, columns of a turn] of this rank's heads.
  at::Tensor to_tokens(const at::Tensor& rows) { return begin(rows.unflatten(0, {ranks_, -1})); }
  // Writes received results into all heads' columns; sums copies.
  void put(const at::Tensor& got, const Columns& into, std::int64_t turn) const {
    const at::Tensor owned = got.unflatten(0, {owners(into), copies(into)});
    of_turn(into, turn).copy_((copies(into) > 1 ? owned.sum(1) : owned.squeeze(1)).transpose(0, 1));
  }

  // Waits for the oldest exchange that was begun.
  void end() {
    const libtorch::UnplannedScope heap(sent_.front().device().type());
    calls_.end_exchange();
    sent_.erase(sent_.begin());
  }

 private:
  [[nodiscard]] std::int64_t owners(const Columns& part) const { return std::min(part.heads, ranks_); }
  [[nodiscard]] std::int64_t copies(const Columns& part) const { return ranks_ / owners(part); }
  [[nodiscard]] std::int64_t own_columns(const Columns& part) const {
    return part.all.size(1) / owners(part) / count();
  }
  // [S, owners, columns of a turn]
  [[nodiscard]] at::Tensor of_turn(const Columns& part, std::int64_t turn) const {
    return part.all.unflatten(1, {owners(part), -1}).narrow(2, turn * own_columns(part), own_columns(part));
  }

  // The transport gets tensors that do not own their memory, since it may hold its tensors longer than the exchange.
  at::Tensor begin(const at::Tensor& send) {
    at::Tensor got = at::empty(send.sizes(), send.options());
    const libtorch::UnplannedScope heap(send.device().type());
    calls_.begin_exchange(libtorch::unowned(got), libtorch::unowned(send));
    sent_.push_back(send);
    return got;
  }

  libtorch::GroupHeads group_;
  LayerCalls& calls_;
  std::int64_t ranks_;
  std::vector<at::Tensor> sent_;  // keeps the memory of exchanges under way
};

// In every turn, calls `attend` with rows [ranks S, columns] of this rank's heads, taken from `parts`, and writes its
// results into the columns `into` of all heads. Exchanges of other turns are under way meanwhile.
using Attend = std::function<std::vector<at::Tensor>(const at::Tensor& rows, std::int64_t turn)>;
void take_turns(Turns& turns, const std::vector<Columns>& parts, const std::vector<Columns>& into,
                const Attend& attend) {
  std::vector<at::Tensor> returning;
  const auto put = [&](std::int64_t turn) {
    for (std::size_t i = 0; i < returning.size(); ++i) {
      turns.end();
      turns.put(returning[i], into[i], turn);
    }
    returning.clear();
  };
  at::Tensor next = turns.to_heads(parts, 0);
  for (std::int64_t turn = 0; turn < turns.count(); ++turn) {
    const at::Tensor rows = std::exchange(next, {});
    turns.end();
    if (turn + 1 < turns.count()) next = turns.to_heads(parts, turn + 1);
    const std::vector<at::Tensor> results = attend(rows.flatten(0, 1), turn);
    put(turn - 1);
    for (const at::Tensor& result : results) returning.push_back(turns.to_tokens(result));
  }
  put(turns.count() - 1);
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> split_attention(const at::Tensor& qkv, const libtorch::GroupHeads& heads,
                                                   const libtorch::Mask& mask, LayerCalls& calls,
                                                   const libtorch::AttentionKernel& kernel) {
  if (calls.ranks() == 1) return kernel.forward(qkv, heads, mask, {});
  Turns turns(heads, calls);
  const libtorch::GroupHeads own = turns.heads();
  at::Tensor o = at::empty({qkv.size(0), heads.queries * heads.dim}, qkv.options());
  at::Tensor lse = at::empty({qkv.size(0), heads.queries}, qkv.options().dtype(at::kFloat));
  const at::Tensor own_lse = lse.view({-1, heads.queries / calls.ranks()});
  take_turns(turns, turns.parts(qkv), {turns.queries(o)}, [&](const at::Tensor& rows, std::int64_t turn) {
    const auto [o_rows, lse_rows] = kernel.forward(rows, own, mask, {});
    own_lse.narrow(1, turn * own.queries, own.queries).copy_(lse_rows);
    return std::vector{o_rows};
  });
  return {o, lse};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> split_attention_backward(const at::Tensor& d_o, const at::Tensor& qkv,
                                                                        const at::Tensor& o, const at::Tensor& lse,
                                                                        const libtorch::GroupHeads& heads,
                                                                        const libtorch::Mask& mask, LayerCalls& calls,
                                                                        const libtorch::AttentionKernel& kernel) {
  if (calls.ranks() == 1) return kernel.backward(d_o, qkv, o, lse, heads, mask);
  Turns turns(heads, calls);
  const libtorch::GroupHeads own = turns.heads();
  const std::int64_t query = own.queries * own.dim, all = query + 2 * own.dim;
  at::Tensor dq = at::empty(o.sizes(), o.options());
  at::Tensor dk = at::empty({o.size(0), heads.keys * heads.dim}, o.options());
  at::Tensor dv = at::empty(dk.sizes(), dk.options());
  const at::Tensor own_lse = lse.view({-1, heads.queries / calls.ranks()});
  std::vector<Columns> parts = turns.parts(qkv);
  parts.insert(parts.end(), {turns.queries(d_o), turns.queries(o)});
  take_turns(turns, parts, {turns.queries(dq), turns.keys(dk), turns.keys(dv)},
             [&](const at::Tensor& rows, std::int64_t turn) {
               const auto [dq_rows, dk_rows, dv_rows] = kernel.backward(
                   rows.narrow(1, all, query), rows.narrow(1, 0, all), rows.narrow(1, all + query, query),
                   own_lse.narrow(1, turn * own.queries, own.queries), own, mask);
               return std::vector{dq_rows, dk_rows, dv_rows};
             });
  return {dq, dk, dv};
}

}  // namespace memo::plugin
