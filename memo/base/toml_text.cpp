// Walks over a TOML text, and tells strings and comments from the rest.
#include "memo/base/toml_text.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

namespace memo {

namespace {

bool is_control(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
}

bool may_begin_a_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("_-\"'").find(c) != std::string_view::npos;
}

// The end of the string that begins at i.
std::size_t end_of_string(std::string_view toml, std::size_t i) {
  const char quote = toml[i];
  const std::size_t quotes = toml.substr(i, 3) == std::string_view(quote == '"' ? "\"\"\"" : "'''") ? 3 : 1;
  const std::string_view end = toml.substr(i, quotes);
  for (i += quotes; i < toml.size() && toml.substr(i, quotes) != end; ++i) {
    if (quotes == 1 && toml[i] == '\n') break;  // not closed
    if (quote == '"' && toml[i] == '\\') ++i;
  }
  return i + quotes;
}

}  // namespace

std::optional<StrayCharacter> stray_character(std::string_view toml) {
  const auto stray = [&](std::size_t at, const char* what) {
    return StrayCharacter{1 + std::count(toml.begin(), toml.begin() + static_cast<std::ptrdiff_t>(at), '\n'), what};
  };
  if (const auto control = std::ranges::find_if(toml, is_control); control != toml.end())
    return stray(static_cast<std::size_t>(control - toml.begin()), "a control character");
  std::size_t i = toml.starts_with("\xef\xbb\xbf") ? 3 : 0;  // a byte order mark
  int arrays = 0;                                            // open here
  bool line_begins = true;
  while (i < toml.size()) {
    const char c = toml[i];
    if (c == '[' && line_begins && arrays == 0) {  // [table] or [[table]]
      i = std::min(toml.find_first_not_of(" \t", i + (toml.substr(i, 2) == "[[" ? 2 : 1)), toml.size());
      if (i < toml.size() && toml[i] != ']' && !may_begin_a_name(toml[i]))
        return stray(i, "a table's name that begins with neither a letter, a digit, _, - nor a quote");
      line_begins = false;
    } else if (c == '#') {
      i = std::min(toml.find('\n', i), toml.size());
    } else if (c == '"' || c == '\'') {
      i = end_of_string(toml, i);
      line_begins = false;
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      return stray(i, "a character that is not ASCII outside of a string");
    } else {
      arrays = std::max(arrays + (c == '[') - (c == ']'), 0);
      line_begins = c == '\n' || (line_begins && (c == ' ' || c == '\t' || c == '\r'));
      ++i;
    }
  }
  return std::nullopt;
}

}  // namespace memo
