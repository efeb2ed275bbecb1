// The Python whose libraries the command uses.
#pragma once

#include "memo/base/file.h"

namespace memo::cli {

// Of the environment where the command is installed, else the one that it was built with, else what PATH names.
Path find_python();

}  // namespace memo::cli
