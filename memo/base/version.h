// The version of the command and of everything it writes. CMakeLists.txt's project() names the same one.
#pragma once

namespace memo {

inline constexpr const char* version = "0.1.0";

}  // namespace memo
