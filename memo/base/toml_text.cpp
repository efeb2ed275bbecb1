#include "memo/base/toml_text.h"

#include <algorithm>
#include <cstddef>

namespace memo {

std::optional<std::int64_t> line_of_bare_non_ascii(std::string_view toml) {
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
      return 1 + std::count(toml.begin(), toml.begin() + static_cast<std::ptrdiff_t>(i), '\n');
    } else {
      ++i;
    }
  }
  return std::nullopt;
}

}  // namespace memo
