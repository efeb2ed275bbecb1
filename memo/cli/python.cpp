#include "memo/cli/python.h"

#include <unistd.h>

namespace memo::cli {

Path find_python() {
  std::error_code error;
  const Path beside = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "python3";
  for (const Path& python : {beside, Path(MEMO_PYTHON)})
    if (std::filesystem::is_regular_file(python, error) && ::access(python.c_str(), X_OK) == 0) return python;
  return "python3";
}

}  // namespace memo::cli
