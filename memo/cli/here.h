// Describes this machine as an entry of the estimator's table of hardware.
#pragma once

#include "memo/base/file.h"
#include "memo/estimate/hardware.h"
#include "memo/model/shape.h"

namespace memo::cli {

// Measures compute at a model's widths, and the disk of a folder, for some seconds; an error in a build without
// LibTorch.
Result<estimate::Hardware> measure_here(const Path& disk, const model::Shape& shape);

}  // namespace memo::cli
