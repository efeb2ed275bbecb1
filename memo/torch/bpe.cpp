#include "memo/torch/bpe.h"

#include <algorithm>
#include <functional>

#include "memo/base/check.h"

namespace memo::edge {
namespace {

// A few megabytes: nearly every piece of natural text comes again, long ones do not.
constexpr std::size_t most_known = 1 << 16;
constexpr std::size_t longest_known = 64;

}  // namespace

std::optional<unsigned char> BpeEncoder::append(std::string_view piece, std::vector<TokenId>& ids) {
  if (const auto found = known_.find(piece); found != known_.end()) {
    ids.insert(ids.end(), found->second.begin(), found->second.end());
    return std::nullopt;
  }
  const std::size_t before = ids.size();
  const auto literal = model_.literal.empty() ? model_.literal.end() : model_.literal.find(std::string(piece));
  if (literal != model_.literal.end()) {
    ids.push_back(literal->second);
  } else {
    if (const auto missing = merge(piece)) return missing;
    for (std::uint32_t i = piece.empty() ? none : 0; i != none; i = symbols_[i].next) ids.push_back(symbols_[i].id);
  }
  if (piece.size() <= longest_known && known_.size() < most_known)
    known_.emplace(piece, std::vector<TokenId>(ids.begin() + static_cast<std::ptrdiff_t>(before), ids.end()));
  return std::nullopt;
}

// Puts the merge of `symbol` with its right neighbour into the queue, if they merge.
void BpeEncoder::offer(std::uint32_t symbol) {
  Symbol& left = symbols_[symbol];
  left.rank = none;
  if (left.next == none) return;
  const auto found = model_.merges.find(BpeModel::pair(left.id, symbols_[left.next].id));
  if (found == model_.merges.end()) return;
  left.rank = found->second.rank;
  left.merged = found->second.result;
  queue_.push_back(std::uint64_t{left.rank} << 32 | symbol);
  std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
}

std::optional<unsigned char> BpeEncoder::merge(std::string_view piece) {
  MEMO_CHECK(piece.size() < none, "a piece of text has fewer than 2^32 - 1 bytes");
  symbols_.clear();
  queue_.clear();
  const auto size = static_cast<std::uint32_t>(piece.size());
  for (std::uint32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(piece[i]);
    if (!model_.bytes[byte]) return byte;
    symbols_.push_back({*model_.bytes[byte], i == 0 ? none : i - 1, i + 1 == size ? none : i + 1, none, 0});
  }
  for (std::uint32_t i = 0; i < size; ++i) offer(i);
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
    const auto rank = static_cast<std::uint32_t>(queue_.back() >> 32), at = static_cast<std::uint32_t>(queue_.back());
    queue_.pop_back();
    Symbol& left = symbols_[at];
    if (left.rank != rank) continue;  // a neighbour has merged since
    Symbol& right = symbols_[left.next];
    left.id = left.merged;
    left.next = right.next;
    right.rank = none;
    if (left.next != none) symbols_[left.next].previous = at;
    offer(at);
    if (left.previous != none) offer(left.previous);
  }
  return std::nullopt;
}

}  // namespace memo::edge
