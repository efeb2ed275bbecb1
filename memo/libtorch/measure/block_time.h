// How long a token takes in blocks of different sizes: measured where a device leaves a choice (model::DeviceSizes).
#pragma once

#include <vector>

#include "memo/job/job.h"
#include "memo/libtorch/memory/device.h"
#include "memo/model/device_sizes.h"
#include "memo/model/shape.h"

namespace memo::libtorch {

model::DeviceSizes sizes_of(const Device& device);

// Runs the calls of one layer before and after core attention, forward and backward, on blocks of each size in turn,
// for about a second. Sizes that the device has no memory for are left out.
Result<std::vector<model::BlockTime>> time_blocks(const model::Shape& shape, job::DType dtype, int groups,
                                                  const std::vector<Tokens>& blocks, Device& device);

}  // namespace memo::libtorch
