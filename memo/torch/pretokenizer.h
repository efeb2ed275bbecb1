// Cuts text into the pieces that byte-level BPE merges within.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "memo/base/result.h"
#include "memo/torch/regex.h"

namespace memo::edge {

// Matches of the first pattern and what lies between them are pieces; each is cut again by the next pattern.
class Pretokenizer {
 public:
  // `about` is "pre_tokenizer" of tokenizer.json: ByteLevel, alone (with GPT-2's pattern) or after Splits.
  static Result<Pretokenizer> read(const nlohmann::json& about, const std::string& where);

  // `piece` gets every piece, in order, none empty. `text` is valid UTF-8; `where` names it in messages.
  Status split(std::string_view text, const std::string& where,
               const std::function<Status(std::string_view)>& piece) const;

 private:
  explicit Pretokenizer(std::vector<Regex> patterns) : patterns_(std::move(patterns)) {}
  std::vector<Regex> patterns_;
};

}  // namespace memo::edge
