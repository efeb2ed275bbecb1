// A tokenizer from strangers: what is accepted encodes text, or refuses it, and every id is below its vocabulary.
#include "memo/torch/tokenizer.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const memo::fuzz::File file(data, size);
  const auto tokenizer = memo::edge::Tokenizer::read(file.path());
  if (!memo::fuzz::accepted(tokenizer)) return 0;
  const auto ids = tokenizer->encode("In the beginning, 1 \xc3\xa4\xe2\x82\xac <|end|>\n\n  it's", "text");
  if (!ids) return 0;
  for (const auto id : *ids)
    if (static_cast<std::int64_t>(id) >= tokenizer->vocab()) std::abort();
  return 0;
}
