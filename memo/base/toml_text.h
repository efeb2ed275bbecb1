// What is to be known of a TOML text before the library parses it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace memo {

// The line of the first character that is not ASCII outside of strings and comments, where TOML 1.0 has none:
// toml++ 3.3 takes some of them to a point that its authors call unreachable.
std::optional<std::int64_t> line_of_bare_non_ascii(std::string_view toml);

}  // namespace memo
