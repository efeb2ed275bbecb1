#include "memo/torch/pretokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "memo/base/text.h"

namespace memo::edge {
namespace {

using nlohmann::json;

// ByteLevel's own pattern: GPT-2's encoder (openai/gpt-2, src/encoder.py).
constexpr const char* gpt2_pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::size_t most_steps = 32;  // each is a level of recursion

std::string quoted_literal(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view(R"(\^$.[]|()?*+{}-&#)").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

class Reader {
 public:
  explicit Reader(std::string where) : where_(std::move(where)) {}

  Result<std::vector<Regex>> read(const json& about) {
    const std::vector<json> steps =
        type_of(about) == "Sequence" ? about.value("pretokenizers", std::vector<json>()) : std::vector<json>{about};
    if (steps.empty() || steps.size() > most_steps) return refused(fmt::format("a Sequence of {}", steps.size()));
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const bool last = i + 1 == steps.size();
      const std::string type = type_of(steps[i]);
      if (type == "Split" && !last) {
        MEMO_CHECKED(split(steps[i]));
      } else if (type == "ByteLevel" && last) {
        MEMO_CHECKED(byte_level(steps[i]));
      } else {
        return refused(fmt::format("'{}'{}", one_line(type), last ? " at the end" : " before the end"));
      }
    }
    return std::move(patterns_);
  }

 private:
  static std::string type_of(const json& about) { return about.is_object() ? about.value("type", "") : ""; }

  Status split(const json& about) {
    const std::string behavior = about.value("behavior", "");
    if (behavior != "Isolated") return refused(fmt::format("a Split with behavior '{}'", one_line(behavior)));
    if (about.value("invert", false)) return refused("a Split with 'invert'");
    const json pattern = about.value("pattern", json::object());
    if (pattern.contains("Regex")) return add(pattern.at("Regex").get<std::string>());
    if (pattern.contains("String")) return add(quoted_literal(pattern.at("String").get<std::string>()));
    return refused("a Split without Regex or String");
  }

  Status byte_level(const json& about) {
    if (about.value("add_prefix_space", true)) return refused("ByteLevel with 'add_prefix_space'");
    return about.value("use_regex", true) ? add(gpt2_pattern) : Status();
  }

  Status add(const std::string& pattern) {
    MEMO_TRY(Regex regex, Regex::compile(pattern, where_));
    patterns_.push_back(std::move(regex));
    return {};
  }

  [[nodiscard]] tl::unexpected<Error> refused(const std::string& what) const {
    return bad_input(fmt::format(
        "{}: pre_tokenizer: {} is not supported; only ByteLevel is, with Splits (Isolated) before it", where_, what));
  }

  std::string where_;
  std::vector<Regex> patterns_;
};

std::size_t next_character(std::string_view text, std::size_t at) {
  do ++at;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

using PieceFunction = std::function<Status(std::string_view)>;

// `searches[level]` cuts `text`, the later ones cut its pieces.
Status cut(std::vector<Regex::Search>& searches, std::size_t level, std::string_view text, const PieceFunction& piece) {
  if (text.empty()) return {};
  if (level == searches.size()) return piece(text);
  std::size_t done = 0, from = 0;
  while (from < text.size()) {
    MEMO_TRY(const auto match, searches[level].next(text, from));
    if (!match) break;
    MEMO_CHECKED(cut(searches, level + 1, text.substr(done, match->begin - done), piece));
    MEMO_CHECKED(cut(searches, level + 1, text.substr(match->begin, match->end - match->begin), piece));
    done = match->end;
    from = match->end > match->begin ? match->end : next_character(text, match->end);
  }
  return cut(searches, level + 1, text.substr(done), piece);
}

}  // namespace

Result<Pretokenizer> Pretokenizer::read(const json& about, const std::string& where) {
  try {
    MEMO_TRY(std::vector<Regex> patterns, Reader(where).read(about));
    return Pretokenizer(std::move(patterns));
  } catch (const json::exception& error) {
    return bad_input(fmt::format("{}: pre_tokenizer: {}", where, one_line(error.what())));
  }
}

Status Pretokenizer::split(std::string_view text, const std::string& where, const PieceFunction& piece) const {
  std::vector<Regex::Search> searches;
  for (const Regex& pattern : patterns_) searches.emplace_back(pattern, where);
  return cut(searches, 0, text, piece);
}

}  // namespace memo::edge
