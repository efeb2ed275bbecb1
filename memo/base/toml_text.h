// What is to be known of a TOML text before the library parses it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace memo {

// The line of the first character that TOML 1.0 has nowhere (control characters but tab and line ends), or only in
// strings and comments (what is not ASCII): toml++ 3.3 takes some of them to points that its authors call unreachable.
std::optional<std::int64_t> line_of_stray_character(std::string_view toml);

}  // namespace memo
