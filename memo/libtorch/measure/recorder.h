// Records what the calls of a dataflow allocate and save, by running each once on the heap: one layer of each kind, one
// block of each size. Core attention runs at two short lengths: its allocations grow linearly with length, which is
// checked.
#pragma once

#include <span>

#include "memo/libtorch/model/segments.h"
#include "memo/plan/profile.h"

namespace memo::libtorch {

// `flow` has the context and block to record for; tensors that segments save beyond their operands are added to its
// table. The traces have no times. `dtype` is the compute dtype. `parameters` is the memory of the model's state;
// external segments give none, and every tensor that their calls neither read nor make belongs to the external code.
// Runs on `device`, so call it from work of that device. `documents`: whether attention may be of several documents.
Result<IndexedVector<plan::TraceIndex, plan::Trace>> record(model::Dataflow& flow, Segments& segments,
                                                            ComputeDtype dtype, std::span<const std::byte> parameters,
                                                            at::Device device, bool documents = true);

}  // namespace memo::libtorch
