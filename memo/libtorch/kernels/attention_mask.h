// Which keys a query sees. In causal attention they end at the query itself, and begin at the start of its document or
// of a sliding window. Neither end ever decreases from one query to the next, so the keys that a tile of queries sees,
// and the queries that see a tile of keys, are intervals. Hidden keys (padding) within these intervals are seen by no
// query.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "memo/model/sum_order.h"

namespace memo::libtorch {

// The heads of one group; `queries` is a multiple of `keys`. Scores are q k / sqrt(dim), and with a cap they become
// softcap tanh(score / softcap) (Gemma 2, arXiv 2408.00118, section 2).
struct GroupHeads {
  std::int64_t queries, keys, dim;
  float softcap = 0;  // 0: none
};

struct Mask {
  std::span<const std::int64_t> document_starts = {};  // of packed documents, ascending from 0; empty: one document
  std::int64_t window = 0;                             // a query sees at most this many keys, itself included; 0: all
  std::span<const std::uint8_t> hidden = {};  // by key: 1 if no query sees it; keys beyond its end are not hidden
  // The output of a query that sees no key. 0: o = 0. Else the mean of the values of its row, where the sequence
  // consists of rows of this many tokens: the result of a softmax of equal scores, as masks of a large negative number
  // make them.
  std::int64_t row = 0;
  // A GPU may add the gradients of queries in any order, so that their last bits differ from run to run.
  bool any_order = false;
};

using model::longest_in_order;

// The most documents for which a plan has a GPU's memory: the backward pass asks for 128 rows of float32 for each.
constexpr std::int64_t most_documents(std::int64_t tokens) { return std::min(tokens, 16 + tokens / 512); }

// A mask that owns its memory.
struct OwnMask {
  std::vector<std::int64_t> document_starts = {};
  std::int64_t window = 0;
  std::vector<std::uint8_t> hidden = {};
  std::int64_t row = 0;
  operator Mask() const {
    return {document_starts, window, hidden, row, false};
  }  // NOLINT(google-explicit-constructor)
};

class Visibility {
 public:
  Visibility(const Mask& mask, std::int64_t tokens) : mask_(mask), tokens_(tokens) {}

  // Query i sees keys [first_key(i), i], except hidden ones.
  [[nodiscard]] std::int64_t first_key(std::int64_t query) const {
    const auto next = next_start(query);
    const std::int64_t document = next == mask_.document_starts.begin() ? 0 : *(next - 1);
    return std::max(document, mask_.window > 0 ? query - mask_.window + 1 : 0);
  }
  // Queries [key, end_query(key)) see the key, if it is not hidden.
  [[nodiscard]] std::int64_t end_query(std::int64_t key) const {
    const auto next = next_start(key);
    const std::int64_t end = next == mask_.document_starts.end() ? tokens_ : std::min(*next, tokens_);
    return mask_.window > 0 ? std::min(end, key + mask_.window) : end;
  }

  [[nodiscard]] bool hidden(std::int64_t key) const {
    return key < static_cast<std::int64_t>(mask_.hidden.size()) && mask_.hidden[static_cast<std::size_t>(key)] != 0;
  }
  // Whether one of keys [first, last) is hidden.
  [[nodiscard]] bool any_hidden(std::int64_t first, std::int64_t last) const {
    const std::int64_t end = std::min<std::int64_t>(last, static_cast<std::int64_t>(mask_.hidden.size()));
    return first < end && std::memchr(mask_.hidden.data() + first, 1, static_cast<std::size_t>(end - first)) != nullptr;
  }
  // Queries of all tokens that see no key, ascending.
  [[nodiscard]] std::vector<std::int64_t> blind_queries() const {
    std::vector<std::int64_t> result;
    std::int64_t seen = -1;  // the last key so far that is not hidden
    for (std::int64_t query = 0; query < std::min<std::int64_t>(tokens_, std::ssize(mask_.hidden)); ++query) {
      if (!hidden(query)) seen = query;
      if (seen < first_key(query)) result.push_back(query);
    }
    return result;
  }

 private:
  [[nodiscard]] std::span<const std::int64_t>::iterator next_start(std::int64_t token) const {
    return std::upper_bound(mask_.document_starts.begin(), mask_.document_starts.end(), token);
  }
  Mask mask_;
  std::int64_t tokens_;
};

}  // namespace memo::libtorch
