// The version of the command and of every file it writes. project() in CMakeLists.txt has the same one.
#pragma once

namespace memo {

inline constexpr const char* version = "0.1.0";

}  // namespace memo
