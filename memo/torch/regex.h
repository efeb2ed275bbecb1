// Regular expressions over UTF-8, as tokenizer.json writes them (Oniguruma's syntax), run by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "memo/base/result.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace memo::edge {

class Regex {
 public:
  // A construct that the two libraries read differently is refused by name. `where` is for messages. Classes of
  // characters are those of PCRE2's version of Unicode.
  static Result<Regex> compile(const std::string& pattern, const std::string& where);

  struct Match {
    std::size_t begin, end;  // bytes
  };
  // Searches texts one after another; `where` names them in messages. `text` is valid UTF-8.
  class Search {
   public:
    Search(const Regex& regex, std::string where);
    // The first match that begins at `from`, the start of a character, or later.
    Result<std::optional<Match>> next(std::string_view text, std::size_t from);

   private:
    const pcre2_real_code_8* code_;  // the regex must outlive the search
    std::string where_;
    std::shared_ptr<pcre2_real_match_data_8> match_;
  };

 private:
  explicit Regex(std::shared_ptr<pcre2_real_code_8> code) : code_(std::move(code)) {}
  std::shared_ptr<pcre2_real_code_8> code_;
};

// The first byte that is not UTF-8; nothing when the text is valid.
std::optional<std::size_t> invalid_utf8(std::string_view text);

}  // namespace memo::edge
