// What lies in a file's place when a download went wrong.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace memo {

constexpr std::size_t stand_in_bytes = 512;  // that tell

// What a file is that begins with `head` instead of what it is named, and what to do; "" if nothing shows.
std::string stand_in(std::string_view head);

}  // namespace memo
