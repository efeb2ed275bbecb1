// Which keys a query sees. Causal attention's keys end at the query itself; they begin where its document does, or
// where a sliding window does. Both ends never decrease from one query to the next, so the keys that a tile of queries
// sees, and the queries that see a tile of keys, are intervals.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace memo::edge {

// The heads of one group; `queries` is a multiple of `keys`. Scores are q k / sqrt(dim), and with a cap they become
// softcap tanh(score / softcap) (Gemma 2, arXiv 2408.00118, section 2).
struct GroupHeads {
  std::int64_t queries, keys, dim;
  float softcap = 0;  // 0: none
};

struct Mask {
  std::span<const std::int64_t> starts = {};  // first tokens of packed documents, ascending from 0; none: one document
  std::int64_t window = 0;                    // a query sees the last so many keys, itself included; 0: all
};

class Visibility {
 public:
  Visibility(const Mask& mask, std::int64_t tokens) : mask_(mask), tokens_(tokens) {}

  // Query i sees keys [first_key(i), i].
  [[nodiscard]] std::int64_t first_key(std::int64_t query) const {
    const auto next = next_start(query);
    const std::int64_t document = next == mask_.starts.begin() ? 0 : *(next - 1);
    return std::max(document, mask_.window > 0 ? query - mask_.window + 1 : 0);
  }
  // Queries [key, end_query(key)) see the key.
  [[nodiscard]] std::int64_t end_query(std::int64_t key) const {
    const auto next = next_start(key);
    const std::int64_t end = next == mask_.starts.end() ? tokens_ : std::min(*next, tokens_);
    return mask_.window > 0 ? std::min(end, key + mask_.window) : end;
  }

 private:
  [[nodiscard]] std::span<const std::int64_t>::iterator next_start(std::int64_t token) const {
    return std::upper_bound(mask_.starts.begin(), mask_.starts.end(), token);
  }
  Mask mask_;
  std::int64_t tokens_;
};

}  // namespace memo::edge
