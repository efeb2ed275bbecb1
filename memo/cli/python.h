// Finds the Python whose libraries the command uses.
#pragma once

#include "memo/base/file.h"

namespace memo::cli {

// The Python of the environment where the command is installed, else the one it was built with, else the one on PATH.
Path find_python();

}  // namespace memo::cli
