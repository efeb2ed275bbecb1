// Maps token files, tokenizes text files, and reads windows over both.
#include "memo/corpus/dataset.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <optional>

#include "memo/base/check.h"
#include "memo/corpus/text_file.h"

namespace memo::corpus {
namespace {

static_assert(std::endian::native == std::endian::little);

// Calls visit(p) with `data` as a pointer to unsigned integers of `width` bytes. Mappings are aligned.
template <class Visit>
void as_integers(const std::byte* data, int width, Visit visit) {
  if (width == 1) return visit(reinterpret_cast<const std::uint8_t*>(data));
  if (width == 2) return visit(reinterpret_cast<const std::uint16_t*>(data));
  visit(reinterpret_cast<const std::uint32_t*>(data));
}

bool is_bin(const Path& file) { return file.extension() == ".bin"; }

Status not_empty(const Path& file, std::int64_t tokens) {
  return tokens > 0 ? Status() : bad_input(fmt::format("{}: is empty; remove it from data.files", file.string()));
}

// Refuses an end token that no text can have, since it would leave all documents joined.
Status check_end_token(const job::DataSource& source, std::int64_t vocab) {
  if (source.end_token >= vocab)
    return bad_input(
        fmt::format("data.end_token: {} is no token of the model, whose vocabulary has {}", source.end_token, vocab));
  if (source.end_token > 255 && !source.tokenizer && !std::ranges::all_of(source.files, is_bin))
    return bad_input(fmt::format("data.end_token: {} is no byte, and without data.tokenizer bytes are the tokens",
                                 source.end_token));
  return {};
}

}  // namespace

Result<TokenIds> Dataset::open_bin(const Path& file, int width) {
  MEMO_TRY(MappedFile mapped, MappedFile::map(file));
  const auto bytes = static_cast<std::int64_t>(mapped.bytes().size());
  if (bytes % width != 0)
    return bad_input(
        fmt::format("{}: {} bytes are no whole number of uint{}; it is truncated, or data.bin_dtype is wrong",
                    file.string(), bytes, 8 * width));
  return TokenIds{std::move(mapped), bytes / width, width};
}

Result<TokenIds> Dataset::open_bytes(const Path& file) {
  MEMO_TRY(MappedFile mapped, MappedFile::map(file));
  const auto size = static_cast<std::int64_t>(mapped.bytes().size());
  return TokenIds{std::move(mapped), size, 1};
}

Result<Dataset> Dataset::open(const job::DataSource& source, std::int64_t vocab, const Tokenizing& how) {
  if (source.files.empty()) return bad_input("data.files: is missing; name the text or *.bin files to train on");
  const bool bin = std::ranges::any_of(source.files, is_bin), text = !std::ranges::all_of(source.files, is_bin);
  if (bin && text && !source.tokenizer)
    return bad_input("data.files: *.bin files hold tokens, but the text beside them has no data.tokenizer");
  MEMO_CHECKED(check_end_token(source, vocab));
  for (const Path& file : source.files)
    if (!is_bin(file)) MEMO_CHECKED(check_text_file(file));
  std::optional<TextTokens> texts;
  if (source.tokenizer && text) {
    MEMO_TRY(TextTokens opened, TextTokens::open(*source.tokenizer, source.end_token, how));
    texts.emplace(std::move(opened));
  }
  const int bin_width = source.bin_dtype == "uint32" ? 4 : 2;
  Dataset dataset;
  dataset.apart_ = source.documents_apart;
  dataset.end_token_ = source.end_token;
  for (const Path& file : source.files) {
    MEMO_TRY(TokenIds part, is_bin(file) ? open_bin(file, bin_width) : texts ? texts->of(file) : open_bytes(file));
    MEMO_CHECKED(not_empty(file, part.tokens));
    const std::int64_t most = vocab >= std::int64_t{1} << (8 * part.width) ? vocab - 1 : largest(part);
    if (most >= vocab)
      return bad_input(
          fmt::format("{}: the token {} does not fit the model's vocabulary of {}; set model.vocab to at "
                      "least {}, or use the model's own tokenizer",
                      file.string(), most, vocab, most + 1));
    dataset.tokens_ += part.tokens;
    dataset.parts_.push_back(std::move(part));
  }
  return dataset;
}

// The largest token of a part that is not empty. Releases the pages of a mapped file after reading them.
std::int64_t Dataset::largest(const TokenIds& part) {
  constexpr std::int64_t chunk = 1 << 23;
  std::int64_t most = 0;
  as_integers(data(part), part.width, [&](const auto* tokens) {
    for (std::int64_t i = 0; i < part.tokens; i += chunk) {
      most = std::max<std::int64_t>(most, *std::max_element(tokens + i, tokens + std::min(i + chunk, part.tokens)));
      part.memory.release();
    }
  });
  return most;
}

std::vector<std::int64_t> Dataset::window(std::int64_t start, std::int64_t length) const {
  MEMO_CHECK(start >= 0 && length >= 0 && length <= tokens_ - start, "a window lies in the data");
  std::vector<std::int64_t> result;
  result.reserve(static_cast<std::size_t>(length));
  for (const TokenIds& part : parts_) {
    const std::int64_t begin = std::clamp<std::int64_t>(start, 0, part.tokens);
    const std::int64_t end = std::clamp<std::int64_t>(start + length, 0, part.tokens);
    as_integers(data(part), part.width,
                [&](const auto* tokens) { result.insert(result.end(), tokens + begin, tokens + end); });
    start -= part.tokens;
  }
  return result;
}

std::vector<std::int64_t> Dataset::document_starts(std::int64_t start, std::int64_t length) const {
  if (!apart_) return {};
  std::vector<std::int64_t> starts{0};
  const std::vector<std::int64_t> tokens = window(start, length);
  std::int64_t end = 0;  // of the current part
  std::size_t part = 0;
  for (std::int64_t t = 0; t + 1 < length; ++t) {
    while (end <= start + t) end += parts_[part++].tokens;
    if (end == start + t + 1 || tokens[static_cast<std::size_t>(t)] == end_token_) starts.push_back(t + 1);
  }
  return starts;
}

std::vector<Dataset::Sum> Dataset::sums() const {
  constexpr std::int64_t piece = 1 << 18, most_pieces = 1 << 10;
  std::vector<std::uint32_t> wide;
  std::vector<Sum> sums;
  for (const TokenIds& part : parts_) {
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(), XXH3_freeState);
    XXH3_64bits_reset(hash.get());
    const std::int64_t pieces = std::min((part.tokens + piece - 1) / piece, most_pieces);
    for (std::int64_t i = 0; i < pieces; ++i) {
      const bool all = part.tokens <= piece * most_pieces;
      const std::int64_t begin = all ? i * piece : (part.tokens - piece) * i / (pieces - 1);
      const std::int64_t end = std::min(begin + piece, part.tokens);
      as_integers(data(part), part.width, [&](const auto* tokens) { wide.assign(tokens + begin, tokens + end); });
      XXH3_64bits_update(hash.get(), wide.data(), wide.size() * sizeof(std::uint32_t));
      part.memory.release();
    }
    sums.push_back({part.tokens, XXH3_64bits_digest(hash.get())});
  }
  return sums;
}

Status Dataset::check_context(Tokens context) const {
  if (context.value() < tokens_) return {};
  return bad_input(fmt::format("the data has {} tokens, but a context of {} needs {}: lower it to {} or add data",
                               tokens_, context.value(), context.value() + 1, tokens_ - 1));
}

}  // namespace memo::corpus
