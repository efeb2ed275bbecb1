// Files built into the library by cmake/embed.cmake.
#pragma once

#include <string_view>

namespace memo::estimate::assets {

extern const std::string_view hardware;

}  // namespace memo::estimate::assets
