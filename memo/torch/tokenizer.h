// Text to token ids, as a Hugging Face tokenizer.json of byte-level BPE says (GPT-2, Llama 3, Qwen2, Qwen3).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/torch/bpe.h"

namespace memo::edge {

// The ids are those of the tokenizers library with add_special_tokens=False: no token is added before or after the
// text, and the contents of added tokens ("<|endoftext|>") found in the text become those tokens. Other models,
// normalizers and pre-tokenizers are refused by name. Truncation, padding, post-processor and decoder are not for
// training text and are not read. The normalizer NFC is accepted and not applied: text is expected to be in NFC.
class Tokenizer {
 public:
  static Result<Tokenizer> read(const Path& file);

  // `text` is UTF-8, below 4 GiB; `where` names it in messages. Thread-safe.
  [[nodiscard]] Result<std::vector<TokenId>> encode(std::string_view text, const std::string& where) const;
  // One more than the largest id.
  [[nodiscard]] std::int64_t vocab() const;

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;
};

}  // namespace memo::edge
