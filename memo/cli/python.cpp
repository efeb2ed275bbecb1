// Looks beside the command, at the build's interpreter, and on PATH.
#include "memo/cli/python.h"

#include <unistd.h>

#include "memo/cli/beside.h"

namespace memo::cli {

Path find_python() {
  std::error_code error;
  for (const Path& python : {beside_command("python3"), Path(MEMO_PYTHON)})
    if (std::filesystem::is_regular_file(python, error) && ::access(python.c_str(), X_OK) == 0) return python;
  return "python3";
}

}  // namespace memo::cli
