// Which kernels a device runs, tried on it.
#pragma once

#include <string>
#include <vector>

#include "memo/libtorch/memory/device.h"

namespace memo::libtorch {

struct KernelFound {
  std::string name;
  bool needed = true;   // training runs it
  std::string missing;  // why it is not there; empty: it is
};

// Memo's own kernels and those of the table of attention are run once, forward and backward; the first of the table is
// needed. Other kernels of attention only stand in LibTorch's table of operators.
std::vector<KernelFound> kernels_found(Device& device);

}  // namespace memo::libtorch
