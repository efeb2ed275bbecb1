// Looks for kept ids, and otherwise runs the tokenizer.
#include "memo/corpus/text_tokens.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>

namespace memo::corpus {
namespace {

// Attributes of a file that change when someone writes to it.
std::array<std::int64_t, 4> state_of(const Path& file) {
  struct stat about {};
  if (::stat(file.c_str(), &about) != 0) return {};
  return {static_cast<std::int64_t>(about.st_ino), about.st_size, about.st_mtim.tv_sec, about.st_mtim.tv_nsec};
}

}  // namespace

Result<TextTokens> TextTokens::open(const Path& tokenizer, std::int64_t end_token, Tokenizing how) {
  MEMO_CHECKED(InputFile::open(tokenizer));
  MEMO_TRY(TokenizerProcess process, TokenizerProcess::start(how.python, tokenizer, end_token));
  MEMO_TRY(const Hash128 hash, hash_file(tokenizer, process.version()));
  return TextTokens(std::move(process), hash, std::move(how));
}

Result<TokenIds> TextTokens::of(const Path& text) {
  const auto before = state_of(text);
  MEMO_TRY(const Hash128 hash, hash_file(text));
  const TokenOrigin origin{hash, tokenizer_};
  const Path kept = token_file_of(text, tokenizer_);
  if (auto ids = read_tokens(kept, origin)) return *std::move(ids);

  std::optional<Path> keep;
  if (how_.keep && !is_external(kept)) keep = kept;
  MEMO_TRY(TokenWriter writer, TokenWriter::create(keep, text));
  how_.note(fmt::format("{}: to tokens by tokenizers {}, {}", text.string(), process_.version(),
                        writer.keeps() ? "kept for the next run in " + kept.filename().string() : "in memory only"));
  MEMO_TRY(const int width, process_.encode(text, [&](std::string_view ids) { return writer.write(ids); }));
  if (state_of(text) != before)
    return bad_input(fmt::format("{}: was written to while it was read; start again when it is whole", text.string()));
  return writer.finish(origin, width);
}

}  // namespace memo::corpus
