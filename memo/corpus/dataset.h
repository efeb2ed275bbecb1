// The training data of a job as one row of tokens, and the place of each sample of a run in it.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/corpus/text_tokens.h"
#include "memo/job/job.h"

namespace memo::corpus {

// The job's files one after another, in order, with nothing between them: long documents are packed to the context.
// *.bin files hold tokens (little endian). The others are text, whose tokens come from the tokenizer; without a
// tokenizer, each byte is a token. All files are mapped, and must not shrink while the dataset is open.
class Dataset {
 public:
  // Fails when a file is missing, empty or not text, or holds a token outside of a model's `vocab` tokens.
  static Result<Dataset> open(const job::DataSource& source, std::int64_t vocab, const Tokenizing& how = {});

  [[nodiscard]] std::int64_t tokens() const { return tokens_; }
  // Tokens [start, start + length), which must lie in the data.
  [[nodiscard]] std::vector<std::int64_t> window(std::int64_t start, std::int64_t length) const;
  // First tokens of documents in [start, start + length), counted from `start`: 0, and each token after the end of a
  // file or after an end token. Empty when the job joins documents.
  [[nodiscard]] std::vector<std::int64_t> document_starts(std::int64_t start, std::int64_t length) const;
  // For each file: its number of tokens, and XXH3 of the tokens as 32-bit integers. Of a file with more than 2^28
  // tokens, 2^28 are hashed, in pieces spread evenly over the file.
  struct Sum {
    std::int64_t tokens = 0;
    std::uint64_t hash = 0;
    bool operator==(const Sum&) const = default;
  };
  [[nodiscard]] std::vector<Sum> sums() const;
  // Fails when the data is too short for one sample of context + 1 tokens.
  [[nodiscard]] Status check_context(Tokens context) const;

 private:
  static Result<TokenIds> open_bin(const Path& file, int width);
  static Result<TokenIds> open_bytes(const Path& file);
  static const std::byte* data(const TokenIds& part) { return part.memory.bytes().data() + part.offset; }
  static std::int64_t largest(const TokenIds& part);

  std::vector<TokenIds> parts_;
  std::int64_t tokens_ = 0;
  bool apart_ = false;
  std::int64_t end_token_ = -1;
};

// The first token of sample `sample` (0, 1, ...) of a run, which reads context + 1 tokens and predicts the last
// `context` of them. Depends only on the arguments, on any machine. An epoch cuts the data into n = (tokens - 1) /
// context consecutive samples that share a token with their neighbours, so that each token is predicted at most once,
// and visits them in an order of its own. Each epoch shifts its samples by a random part of the (tokens - 1) % context
// tokens that are left over.
std::int64_t sample_start(std::uint64_t seed, std::int64_t sample, std::int64_t context, std::int64_t tokens);

}  // namespace memo::corpus
