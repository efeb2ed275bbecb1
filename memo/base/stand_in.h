// Recognises files that lie in a file's place when a download went wrong.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace memo {

constexpr std::size_t stand_in_bytes = 512;  // bytes of a file that suffice

// Says what a file is that begins with `head` instead of the content its name promises, and what to do; "" if it looks
// right.
std::string stand_in(std::string_view head);

}  // namespace memo
