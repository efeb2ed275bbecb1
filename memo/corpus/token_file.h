// Token ids of a text, in a file beside it for the next run (docs/formats.md), or in memory alone.
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

// Integers behind one another in a file or in memory.
struct TokenIds {
  MappedFile memory;
  std::int64_t tokens;
  int width;               // bytes of each: 1, 2 or 4
  std::size_t offset = 0;  // of the first
};

using Hash128 = std::array<std::uint64_t, 2>;  // XXH3, 128 bits
// What ids were made of.
struct TokenOrigin {
  Hash128 text, tokenizer;
  bool operator==(const TokenOrigin&) const = default;
};

// Of the bytes of a file, and `more`.
Result<Hash128> hash_file(const Path& file, std::string_view more = {});

// Where the ids of a text by this tokenizer are kept: NAME.16 DIGITS.tokens, beside the text.
Path token_file_of(const Path& text, const Hash128& tokenizer);
// Whether there is a file that is none of Memo's.
bool is_foreign(const Path& token_file);
// The ids, if they are of this origin and whole.
std::optional<TokenIds> read_tokens(const Path& token_file, const TokenOrigin& origin);

// Ids as they come. On the disk they have a name only when all are there; with no room there, they go on in memory.
class TokenWriter {
 public:
  // `keep`: the file that they are to be found in, for those who may read `text`; or none.
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

  std::optional<Path> keep_;  // none: in memory
  Descriptor file_;
  std::int64_t size_ = 0;
  std::unique_ptr<XXH3_state_t, FreeState> hash_;
};

}  // namespace memo::corpus
