// How long the host takes to update a layer's parameters.
#pragma once

#include "memo/base/units.h"
#include "memo/job/job.h"
#include "memo/model/dataflow.h"
#include "memo/model/shape.h"

namespace memo::libtorch {

// The time of AdamW and of the cast to the compute dtype on the host, for the parameters of a layer that an update of
// this role (host_update_before or host_update_after) has. Measured on at most 16 million parameters.
Seconds host_update_seconds(const model::Shape& shape, job::DType dtype, model::SegmentRole role);

}  // namespace memo::libtorch
