// Tokens whose text is found before anything else is done to it: "<|endoftext|>" and its like.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "memo/base/result.h"
#include "memo/torch/bpe.h"

namespace memo::edge {

class AddedTokens {
 public:
  void add(std::string content, TokenId id);

  // Cuts `text` at the added tokens, the leftmost first, of several there the longest. `between` gets the text between
  // them, never empty, and `found` each token, in order.
  Status split(std::string_view text, const std::function<Status(std::string_view)>& between,
               const std::function<void(TokenId)>& found) const;

 private:
  struct Added {
    std::string content;
    TokenId id;
  };
  std::array<std::vector<Added>, 256> by_first_byte_;  // the longest first
};

}  // namespace memo::edge
