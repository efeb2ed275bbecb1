// Walks over a TOML text, and tells strings and comments from the rest.
#include "memo/base/toml_text.h"

#include <algorithm>
#include <cstddef>

namespace memo {

namespace {

bool is_control(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
}

}  // namespace

std::optional<std::int64_t> line_of_stray_character(std::string_view toml) {
  const auto line = [&](std::size_t at) {
    return 1 + std::count(toml.begin(), toml.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  };
  if (const auto control = std::ranges::find_if(toml, is_control); control != toml.end())
    return line(static_cast<std::size_t>(control - toml.begin()));
  std::size_t i = toml.starts_with("\xef\xbb\xbf") ? 3 : 0;  // a byte order mark
  while (i < toml.size()) {
    const char c = toml[i];
    if (c == '#') {
      i = std::min(toml.find('\n', i), toml.size());
    } else if (c == '"' || c == '\'') {
      const std::size_t quotes = toml.substr(i, 3) == std::string_view(c == '"' ? "\"\"\"" : "'''") ? 3 : 1;
      const std::string_view end = toml.substr(i, quotes);
      for (i += quotes; i < toml.size() && toml.substr(i, quotes) != end; ++i) {
        if (quotes == 1 && toml[i] == '\n') break;  // not closed
        if (c == '"' && toml[i] == '\\') ++i;
      }
      i += quotes;
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      return line(i);
    } else {
      ++i;
    }
  }
  return std::nullopt;
}

}  // namespace memo
