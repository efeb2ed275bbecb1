// A Python beside the command that turns text into token ids by the tokenizers library (text_tokens.py).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "memo/base/descriptor.h"
#include "memo/base/file.h"
#include "memo/base/result.h"

namespace memo::corpus {

class TokenizerProcess {
 public:
  // `end_token`: one that the tokenizer must have, or -1. Errors say what to install or to change.
  static Result<TokenizerProcess> start(const Path& python, const Path& tokenizer, std::int64_t end_token);
  TokenizerProcess(TokenizerProcess&& other) noexcept;
  TokenizerProcess& operator=(TokenizerProcess&&) = delete;
  ~TokenizerProcess();  // ends it

  // Of the library.
  [[nodiscard]] const std::string& version() const { return version_; }
  // Gives `write` the ids of a text, little endian, in pieces, and returns the bytes of an id: 2 or 4. After an error
  // the process is of no more use.
  Result<int> encode(const Path& text, const std::function<Status(std::string_view)>& write);

 private:
  TokenizerProcess() = default;
  bool read(void* into, std::size_t size);  // all of it
  // Why it ended: what it said, or how.
  tl::unexpected<Error> ended();

  Path python_;
  std::string version_;
  pid_t pid_ = -1;
  Descriptor requests_, answers_, complaints_;
};

}  // namespace memo::corpus
