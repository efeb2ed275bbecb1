// The training data of a job as one row of tokens, and where each sample of a run lies in it.
#pragma once

#include <cstdint>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/corpus/text_tokens.h"
#include "memo/job/job.h"

namespace memo::corpus {

// The job's files one after another, in order, nothing between them: long documents are packed to the context. *.bin
// files hold tokens (little endian); the others are text, whose tokens are the tokenizer's or, without one, the bytes.
// All are mapped. Files must not shrink while the dataset is open.
class Dataset {
 public:
  // Fails when a file is missing, empty or no text, or holds a token that a model of `vocab` tokens does not have.
  static Result<Dataset> open(const job::DataSource& source, std::int64_t vocab, const Tokenizing& how = {});

  [[nodiscard]] std::int64_t tokens() const { return tokens_; }
  // Tokens [start, start + length), which must lie in the data.
  [[nodiscard]] std::vector<std::int64_t> window(std::int64_t start, std::int64_t length) const;
  // Where documents begin in tokens [start, start + length), counted from `start`: 0, and after the end of each file
  // and each end token. Empty when the job joins documents.
  [[nodiscard]] std::vector<std::int64_t> document_starts(std::int64_t start, std::int64_t length) const;
  // Of each file: its tokens, and XXH3 of them as 32-bit integers. Of more than 2^28 as many are hashed, in pieces
  // spread evenly over the file.
  struct Sum {
    std::int64_t tokens = 0;
    std::uint64_t hash = 0;
    bool operator==(const Sum&) const = default;
  };
  [[nodiscard]] std::vector<Sum> sums() const;
  // Fails when the data is too short for one sample: context + 1 tokens.
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

// Where sample `sample` (0, 1, ...) of a run starts; it reads context + 1 tokens and predicts the last `context` of
// them. Depends on nothing but its arguments, on any machine. An epoch cuts the data into n = (tokens - 1) / context
// samples that follow each other and share a token, so that each token is predicted at most once, and visits them in an
// order of its own; each epoch begins anew, somewhere in the (tokens - 1) % context tokens that are left over.
std::int64_t sample_start(std::uint64_t seed, std::int64_t sample, std::int64_t context, std::int64_t tokens);

}  // namespace memo::corpus
