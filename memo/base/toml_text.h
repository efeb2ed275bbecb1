// Checks a TOML text for characters that the library must not be given.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace memo {

// The line of the first character that TOML 1.0 forbids everywhere (control characters except tab and line ends), or
// allows only in strings and comments (characters that are not ASCII). Some of them make toml++ 3.3 reach code that its
// authors call unreachable.
std::optional<std::int64_t> line_of_stray_character(std::string_view toml);

}  // namespace memo
