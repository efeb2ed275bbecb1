// Files built into the library by cmake/embed.cmake.
#pragma once

#include <string_view>

namespace memo::corpus::assets {

extern const std::string_view text_tokens;  // text_tokens.py

}  // namespace memo::corpus::assets
