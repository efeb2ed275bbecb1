// A Python process that turns text into token ids by the tokenizers library (text_tokens.py).
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

// The caller ignores SIGPIPE, so that a process that ended is an error of `encode`.
class TokenizerProcess {
 public:
  // `end_token`: a token that the tokenizer must have, or -1. Errors say what to install or to change.
  static Result<TokenizerProcess> start(const Path& python, const Path& tokenizer, std::int64_t end_token);
  TokenizerProcess(TokenizerProcess&& other) noexcept;
  TokenizerProcess& operator=(TokenizerProcess&&) = delete;
  ~TokenizerProcess();  // ends the process

  // The version of the tokenizers library.
  [[nodiscard]] const std::string& version() const { return version_; }
  // Passes the ids of a text to `write`, little endian, in pieces, and returns the bytes of an id: 2 or 4. After an
  // error the process cannot be used again.
  Result<int> encode(const Path& text, const std::function<Status(std::string_view)>& write);

 private:
  TokenizerProcess() = default;
  bool read(void* into, std::size_t size);  // reads `size` bytes
  // Why the process ended: its last message, or its exit status.
  tl::unexpected<Error> ended();

  Path python_;
  std::string version_;
  pid_t pid_ = -1;
  Descriptor requests_, answers_, complaints_;
};

}  // namespace memo::corpus
