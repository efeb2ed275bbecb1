// What lies in a folder.
#pragma once

#include <filesystem>
#include <system_error>
#include <vector>

#include "memo/base/file.h"

namespace memo::store {

// In no order; with an error, those found so far.
inline std::vector<Path> paths_in(const Path& folder, std::error_code& error) {
  std::vector<Path> paths;
  std::filesystem::directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) paths.push_back(at->path());
  return paths;
}

}  // namespace memo::store
