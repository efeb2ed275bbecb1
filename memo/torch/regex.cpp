#include "memo/torch/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <new>

#include "memo/base/text.h"

namespace memo::edge {
namespace {

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// Rewrites a pattern in PCRE2's syntax, where the two differ; refuses what would mean something else there.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : rest_(pattern) {}

  Result<std::string> translate() {
    while (!rest_.empty() && refused_.empty()) {
      if (rest_.front() == '\\')
        escape();
      else
        in_class_ ? member() : item();
    }
    if (!refused_.empty()) return bad_input(fmt::format("'{}' is not supported", one_line(refused_)));
    return std::move(result_);
  }

 private:
  void take(std::size_t count) {
    result_ += rest_.substr(0, count);
    rest_.remove_prefix(std::min(count, rest_.size()));
  }
  void refuse(std::size_t count) { refused_ = rest_.substr(0, count); }

  void escape() {
    const char name = rest_.size() > 1 ? rest_[1] : '\0';
    if (name == 's' || name == 'S') {  // White_Space in Oniguruma; in PCRE2 U+180E too
      result_ += name == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
      rest_.remove_prefix(2);
    } else if (std::isalnum(static_cast<unsigned char>(name)) == 0 ||
               std::string_view("dDrntf").find(name) != std::string_view::npos) {
      take(2);
    } else if ((name == 'p' || name == 'P' || name == 'x') && rest_.substr(2).starts_with('{')) {
      take(std::min(rest_.find('}'), rest_.size() - 1) + 1);
    } else {
      refuse(2);
    }
  }

  void member() {  // of a class: there are no classes within classes in PCRE2
    if (rest_.front() == '[' || rest_.starts_with("&&")) return refuse(2);
    in_class_ = rest_.front() != ']';
    take(1);
  }

  void item() {
    if (rest_.starts_with("[]") || rest_.starts_with("[^]")) return refuse(3);  // a ] that would be a member
    if (rest_.starts_with("(*") || rest_.starts_with("{,")) return refuse(2);
    // Other options have other scopes or meanings.
    if (rest_.starts_with("(?") && !rest_.starts_with("(?i:") && rest_.find_first_of(":=!<>", 2) != 2) return refuse(3);
    if (rest_.front() == '{') {
      const std::size_t size = rest_.find('}');
      if (size != std::string_view::npos && rest_.substr(size + 1).starts_with('+'))
        return refuse(size + 2);  // possessive in PCRE2, repeated in Oniguruma
    }
    in_class_ = rest_.front() == '[';
    take(1);
  }

  std::string_view rest_;
  std::string result_, refused_;
  bool in_class_ = false;
};

}  // namespace

Result<Regex> Regex::compile(const std::string& pattern, const std::string& where) {
  const Result<std::string> translated = Translator(pattern).translate();
  if (!translated)
    return bad_input(fmt::format("{}: pattern '{}': {}", where, one_line(pattern), translated.error().message));
  const std::shared_ptr<pcre2_compile_context> context(pcre2_compile_context_create(nullptr),
                                                       pcre2_compile_context_free);
  if (context == nullptr) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE at = 0;
  // MULTILINE: ^ and $ are those of lines in Oniguruma.
  std::shared_ptr<pcre2_real_code_8> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &at, context.get()),
      pcre2_code_free);
  if (code == nullptr)
    return bad_input(fmt::format("{}: pattern '{}': {}", where, one_line(pattern), message_of(error)));
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT, matching is only slower
  return Regex(std::move(code));
}

Regex::Search::Search(const Regex& regex, std::string where)
    : code_(regex.code_.get()),
      where_(std::move(where)),
      match_(pcre2_match_data_create_from_pattern(code_, nullptr), pcre2_match_data_free) {
  if (match_ == nullptr) throw std::bad_alloc();
}

Result<std::optional<Regex::Match>> Regex::Search::next(std::string_view text, std::size_t from) {
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       PCRE2_NO_UTF_CHECK | options, match_.get(), nullptr);
  };
  int found = match(0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0)
    return bad_input(fmt::format("{}: a pattern of the tokenizer gave up: {}; break long runs of one kind of character",
                                 where_, message_of(found)));
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match_.get());
  return Match{range[0], range[1]};
}

std::optional<std::size_t> invalid_utf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  std::size_t i = 0;
  while (i < text.size()) {
    const unsigned char first = bytes[i];
    if (first < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() - i < length) return i;
    for (std::size_t k = 1; k < length; ++k)
      if ((bytes[i + k] & 0xC0) != 0x80) return i;
    // Longer than need be, a surrogate, or beyond U+10FFFF (RFC 3629, section 4).
    const unsigned char second = bytes[i + 1];
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) || (first == 0xF0 && second < 0x90) ||
        (first == 0xF4 && second > 0x8F))
      return i;
    i += length;
  }
  return std::nullopt;
}

}  // namespace memo::edge
