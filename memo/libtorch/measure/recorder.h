// Records what the calls of a dataflow allocate and save, by running each once on the heap: one layer of each kind, one
// block of each size, core attention at two short lengths (its allocations grow linearly with length; checked).
#pragma once

#include <span>

#include "memo/libtorch/model/segments.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// `flow` has the context and block to record for; what segments save beyond their operands is added to its table.
// The traces have no times. `dtype` is the compute dtype; `parameters` the memory of the model's state, unless the
// segments are external: then whatever a call neither reads nor makes is someone else's. Runs on `device`, as work of
// it.
Result<std::vector<plan::Trace>> record(model::Dataflow& flow, Segments& segments, ComputeDtype dtype,
                                        std::span<const std::byte> parameters, at::Device device);

}  // namespace memo::libtorch
