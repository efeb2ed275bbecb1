// The token ids of text files: those that an earlier run kept, or new ones by the tokenizers library.
#pragma once

#include <functional>
#include <string>

#include "memo/corpus/token_file.h"
#include "memo/corpus/tokenizer_process.h"

namespace memo::corpus {

struct Tokenizing {
  Path python = "python3";                                                   // with the tokenizers library
  bool keep = true;                                                          // ids beside the text, for the next run
  std::function<void(const std::string&)> note = [](const std::string&) {};  // a line that the user is to know
};

class TextTokens {
 public:
  // Of a tokenizer.json. `end_token`: one that it must have, or -1.
  static Result<TextTokens> open(const Path& tokenizer, std::int64_t end_token, Tokenizing how);

  // Exactly what the library gives for the whole text, with add_special_tokens=False.
  Result<TokenIds> of(const Path& text);

 private:
  TextTokens(TokenizerProcess process, const Hash128& tokenizer, Tokenizing how)
      : process_(std::move(process)), tokenizer_(tokenizer), how_(std::move(how)) {}
  TokenizerProcess process_;
  Hash128 tokenizer_;  // the file and the library's version
  Tokenizing how_;
};

}  // namespace memo::corpus
