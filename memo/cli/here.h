// This machine as an entry of the estimator's table.
#pragma once

#include "memo/base/file.h"
#include "memo/estimate/hardware.h"

namespace memo::cli {

// Measures compute and the disk of a folder for some seconds; an error in a build without LibTorch.
Result<estimate::Hardware> measure_here(const Path& disk);

}  // namespace memo::cli
