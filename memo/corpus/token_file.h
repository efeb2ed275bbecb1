// Token ids of a text, kept in a file beside it for the next run (docs/formats.md), or in memory alone.
#pragma once

#include <xxhash.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "memo/base/descriptor.h"
#include "memo/base/file.h"
#include "memo/base/input_file.h"
#include "memo/base/result.h"

namespace memo::corpus {

// An array of integers in a file or in memory.
struct TokenIds {
  MappedFile memory;
  std::int64_t tokens;
  int width;               // bytes of each: 1, 2 or 4
  std::size_t offset = 0;  // of the first integer
};

using Hash128 = std::array<std::uint64_t, 2>;  // XXH3, 128 bits
// The text and tokenizer that ids were made from.
struct TokenOrigin {
  Hash128 text, tokenizer;
  bool operator==(const TokenOrigin&) const = default;
};

// Hash of a file's bytes followed by `more`.
Result<Hash128> hash_file(const Path& file, std::string_view more = {});

// The file that keeps the ids of a text by this tokenizer: NAME.16 DIGITS.tokens, beside the text.
Path token_file_of(const Path& text, const Hash128& tokenizer);
// Whether a file is there that Memo did not write.
bool is_external(const Path& token_file);
// The kept ids, if they have this origin and are complete.
std::optional<TokenIds> read_tokens(const Path& token_file, const TokenOrigin& origin);

// Writes ids as they come. The file on the disk gets its name only when all ids are written; if the disk is full, the
// ids go to memory.
class TokenWriter {
 public:
  // `keep`: the file to keep them in, readable by those who may read `text`; none: memory.
  static Result<TokenWriter> create(const std::optional<Path>& keep, const Path& text);

  [[nodiscard]] bool keeps() const { return keep_.has_value(); }
  Status write(std::string_view bytes);
  Result<TokenIds> finish(const TokenOrigin& origin, int width);

 private:
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  TokenWriter();
  Status append(std::string_view bytes);
  Status move_to_memory();
  void give_name();

  std::optional<Path> keep_;  // none: ids go to memory
  Descriptor file_;
  std::int64_t size_ = 0;
  std::unique_ptr<XXH3_state_t, FreeState> hash_;
};

}  // namespace memo::corpus
