// Byte-pair encoding of one piece of text: its bytes become tokens, neighbours merge in the order that was learned.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace memo::edge {

using TokenId = std::uint32_t;

struct BpeModel {
  struct Merge {
    std::uint32_t rank;  // lower ranks first
    TokenId result;
  };
  std::array<std::optional<TokenId>, 256> bytes;     // the token of each byte, if it has one
  std::unordered_map<std::uint64_t, Merge> merges;   // by pair(left, right)
  std::unordered_map<std::string, TokenId> literal;  // pieces that are tokens as they are ("ignore_merges")

  static std::uint64_t pair(TokenId left, TokenId right) { return std::uint64_t{left} << 32 | right; }
};

// Encodes pieces one after another; words that come again are remembered. O(n log n) in the length of a piece.
class BpeEncoder {
 public:
  explicit BpeEncoder(const BpeModel& model) : model_(model) {}  // which must outlive the encoder

  // Appends the tokens of `piece`, below 4 GiB, or returns the byte that has none.
  std::optional<unsigned char> append(std::string_view piece, std::vector<TokenId>& ids);

 private:
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  struct Symbol {
    TokenId id;
    std::uint32_t previous, next;  // none: at the end
    std::uint32_t rank;            // of the merge with the next symbol; none: there is none, or this symbol is gone
    TokenId merged;                // what that merge gives
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  std::optional<unsigned char> merge(std::string_view piece);
  void offer(std::uint32_t symbol);

  const BpeModel& model_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint64_t> queue_;  // a heap of rank, then position: the first is the next merge, unless outdated
  std::unordered_map<std::string, std::vector<TokenId>, Hash, std::equal_to<>> known_;
};

}  // namespace memo::edge
