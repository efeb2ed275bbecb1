// Checks a TOML text for characters that the library must not be given.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace memo {

struct StrayCharacter {
  std::int64_t line;
  const char* what;
};

// The first character that TOML 1.0 forbids everywhere (control characters except tab and line ends), allows only in
// strings and comments (characters that are not ASCII), or forbids at the beginning of a table's name. These characters
// make toml++ 3.3 reach code that its authors call unreachable.
std::optional<StrayCharacter> stray_character(std::string_view toml);

}  // namespace memo
