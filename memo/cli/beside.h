// Finds files beside the command, wherever it was installed.
#pragma once

#include "memo/base/file.h"

namespace memo::cli {

inline Path beside_command(const char* name) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / name;
}

}  // namespace memo::cli
