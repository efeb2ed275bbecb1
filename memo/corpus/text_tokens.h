// The token ids of text files: those that an earlier run kept, or new ones from the tokenizers library.
#pragma once

#include <functional>
#include <string>

#include "memo/corpus/token_file.h"
#include "memo/corpus/tokenizer_process.h"

namespace memo::corpus {

struct Tokenizing {
  Path python = "python3";  // interpreter with the tokenizers library
  bool keep = true;         // keep ids beside the text, for the next run
  std::function<void(const std::string&)> note = [](const std::string&) {};  // tells the user a line
};

class TextTokens {
 public:
  // Opens a tokenizer.json. `end_token`: a token that it must have, or -1.
  static Result<TextTokens> open(const Path& tokenizer, std::int64_t end_token, Tokenizing how);

  // Exactly the library's ids for the whole text, with add_special_tokens=False.
  Result<TokenIds> of(const Path& text);

 private:
  TextTokens(TokenizerProcess process, const Hash128& tokenizer, Tokenizing how)
      : process_(std::move(process)), tokenizer_(tokenizer), how_(std::move(how)) {}
  TokenizerProcess process_;
  Hash128 tokenizer_;  // of the tokenizer's file and the library's version
  Tokenizing how_;
};

}  // namespace memo::corpus
