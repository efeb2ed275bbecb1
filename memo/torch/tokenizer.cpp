#include "memo/torch/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "memo/base/text.h"
#include "memo/torch/added_tokens.h"
#include "memo/torch/pretokenizer.h"

namespace memo::edge {

struct Tokenizer::Parts {
  AddedTokens raw, normalized;  // those found in the text as it is come first
  Pretokenizer pretokenizer;
  BpeModel model;
  std::int64_t vocab = 0;
};

namespace {

using nlohmann::json;

// Byte-level tokenizers write each byte as a printable character: itself if it is one in Latin-1, else the next free
// one from U+0100 on (bytes_to_unicode of openai/gpt-2, src/encoder.py). As UTF-8.
std::array<std::string, 256> byte_characters() {
  std::array<std::string, 256> characters;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const unsigned point = printable ? byte : next++;
    if (point < 0x80)
      characters[byte] = std::string(1, static_cast<char>(point));
    else
      characters[byte] = {static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 0x3F))};
  }
  return characters;
}

// The bytes that a token stands for; nothing when it has other characters (an added token).
std::optional<std::string> bytes_of(const std::string& token, const std::unordered_map<std::string, char>& byte_of) {
  std::string bytes;
  for (std::size_t i = 0; i < token.size();) {
    const std::size_t length = static_cast<unsigned char>(token[i]) < 0x80 ? 1 : 2;
    const auto found = byte_of.find(token.substr(i, length));
    if (found == byte_of.end()) return std::nullopt;
    bytes += found->second;
    i += length;
  }
  return bytes;
}

class Reader {
 public:
  explicit Reader(std::string where) : where_(std::move(where)) {}

  Status model(const json& about, BpeModel& model) {
    const std::string type = about.value("type", about.contains("merges") ? "BPE" : "");
    if (type != "BPE") return refused(fmt::format("model '{}'", type));
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
      const json value = about.value(key, json());
      if (!value.is_null() && value != json("") && value != json(0.0))
        return refused(fmt::format("model.{} {}", key, value.dump()));
    }
    if (about.value("byte_fallback", false)) return refused("model.byte_fallback");
    MEMO_CHECKED(vocabulary(about.at("vocab")));
    const auto characters = byte_characters();
    for (std::size_t byte = 0; byte < 256; ++byte)
      if (const auto found = ids_.find(characters[byte]); found != ids_.end()) model.bytes[byte] = found->second;
    if (about.value("ignore_merges", false)) literal_pieces(characters, model);
    return merges(about.at("merges"), model);
  }

  Status added_token(const json& about, AddedTokens& raw, AddedTokens& normalized) {
    const auto content = about.at("content").get<std::string>();
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      if (about.value(key, false)) return refused(fmt::format("'{}' of the added token '{}'", key, content));
    MEMO_TRY(const TokenId id, token_id(content, about.at("id")));
    (about.value("normalized", !about.value("special", false)) ? normalized : raw).add(content, id);
    return {};
  }

  // None, NFC, or a Sequence of these.
  Status normalizer(const json& about) {
    const json steps = !about.is_null() && about.at("type") == "Sequence" ? about.at("normalizers") : json{about};
    for (const json& step : steps)
      if (!step.is_null() && step.at("type") != "NFC")
        return refused(fmt::format("normalizer {}", step.at("type").dump()));
    return {};
  }

  [[nodiscard]] std::int64_t vocab() const { return vocab_; }

 private:
  Result<TokenId> token_id(const std::string& token, const json& id) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max())
      return bad_input(fmt::format("{}: the id of token '{}' is {}; ids are integers from 0 to 2^31 - 1", where_,
                                   one_line(token), one_line(id.dump())));
    vocab_ = std::max(vocab_, id.get<std::int64_t>() + 1);
    return id.get<TokenId>();
  }

  Status vocabulary(const json& vocab) {
    for (const auto& [token, value] : vocab.items()) {
      MEMO_TRY(const TokenId id, token_id(token, value));
      ids_.emplace(token, id);
    }
    return {};
  }

  void literal_pieces(const std::array<std::string, 256>& characters, BpeModel& model) {
    std::unordered_map<std::string, char> byte_of;
    for (std::size_t byte = 0; byte < 256; ++byte) byte_of.emplace(characters[byte], static_cast<char>(byte));
    for (const auto& [token, id] : ids_)
      if (const auto bytes = bytes_of(token, byte_of)) model.literal.emplace(*bytes, id);
  }

  // "a b" or ["a", "b"], the first is merged first.
  Status merges(const json& list, BpeModel& model) {
    std::uint32_t rank = 0;
    for (const json& merge : list) {
      std::vector<std::string> sides;
      if (merge.is_string()) {
        const auto text = merge.get<std::string>();
        const std::size_t space = text.find(' ');
        sides = {text.substr(0, space), space == std::string::npos ? "" : text.substr(space + 1)};
      } else {
        sides = merge.get<std::vector<std::string>>();
      }
      const auto left = sides.size() == 2 ? ids_.find(sides[0]) : ids_.end();
      const auto right = sides.size() == 2 ? ids_.find(sides[1]) : ids_.end();
      const auto result = sides.size() == 2 ? ids_.find(sides[0] + sides[1]) : ids_.end();
      if (left == ids_.end() || right == ids_.end() || result == ids_.end())
        return bad_input(fmt::format("{}: merge {}, {}, is no pair of tokens whose union is a token", where_, rank,
                                     one_line(merge.dump())));
      model.merges[BpeModel::pair(left->second, right->second)] = {rank++, result->second};
    }
    return {};
  }

  [[nodiscard]] tl::unexpected<Error> refused(const std::string& what) const {
    return bad_input(fmt::format("{}: {} is not supported; a byte-level BPE tokenizer is (GPT-2, Llama 3, Qwen)",
                                 where_, one_line(what)));
  }

  std::string where_;
  std::unordered_map<std::string, TokenId> ids_;
  std::int64_t vocab_ = 0;
};

}  // namespace

Result<Tokenizer> Tokenizer::read(const Path& file) {
  MEMO_TRY(const json about, read_json(file));
  try {
    Reader reader(file.string());
    BpeModel model;
    MEMO_CHECKED(reader.model(about.at("model"), model));
    MEMO_CHECKED(reader.normalizer(about.value("normalizer", json())));
    MEMO_TRY(Pretokenizer pretokenizer, Pretokenizer::read(about.value("pre_tokenizer", json()), file.string()));
    auto parts = std::make_shared<Parts>(Parts{{}, {}, std::move(pretokenizer), std::move(model), 0});
    for (const json& added : about.value("added_tokens", json::array()))
      MEMO_CHECKED(reader.added_token(added, parts->raw, parts->normalized));
    parts->vocab = reader.vocab();
    return Tokenizer(std::move(parts));
  } catch (const json::exception& error) {
    return bad_input(fmt::format("{}: not a tokenizer.json: {}", file.string(), one_line(error.what())));
  }
}

std::int64_t Tokenizer::vocab() const { return parts_->vocab; }

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text, const std::string& where) const {
  if (text.size() >= std::numeric_limits<std::uint32_t>::max())
    return bad_input(fmt::format("{}: text of 4 GiB or more; split the file, or write its tokens to a *.bin", where));
  if (const auto invalid = invalid_utf8(text))
    return bad_input(fmt::format("{}: byte {} is not UTF-8; convert the file to UTF-8", where, *invalid));
  std::vector<TokenId> ids;
  BpeEncoder encoder(parts_->model);
  const auto on_piece = [&](std::string_view piece) -> Status {
    const auto missing = encoder.append(piece, ids);
    if (!missing) return {};
    return bad_input(
        fmt::format("{}: byte {}: the tokenizer has no token for the byte 0x{:02x}; use one that was "
                    "trained with the whole byte alphabet",
                    where, piece.data() - text.data(), *missing));
  };
  const auto on_token = [&](TokenId id) { ids.push_back(id); };
  const auto on_plain = [&](std::string_view plain) { return parts_->pretokenizer.split(plain, where, on_piece); };
  const auto on_rest = [&](std::string_view rest) { return parts_->normalized.split(rest, on_plain, on_token); };
  MEMO_CHECKED(parts_->raw.split(text, on_rest, on_token));
  return ids;
}

}  // namespace memo::edge
