// Lists the content of a folder.
#pragma once

#include <filesystem>
#include <system_error>
#include <vector>

#include "memo/base/file.h"

namespace memo::store {

// In any order; with an error, the paths found before it.
inline std::vector<Path> paths_in(const Path& folder, std::error_code& error) {
  std::vector<Path> paths;
  std::filesystem::directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) paths.push_back(at->path());
  return paths;
}

}  // namespace memo::store
