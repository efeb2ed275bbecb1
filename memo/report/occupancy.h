// Bytes in use on the device and on each tier, at every boundary of a program.
#pragma once

#include <vector>

#include "memo/plan/plan.h"

namespace memo::report {

struct Occupancy {
  IndexedVector<plan::CallIndex, Bytes> device;  // fixed memory, tensors, and the call's transients
  // Of each tier: extents from copy-out's start to the last copy-in's end.
  std::vector<IndexedVector<plan::Boundary, Bytes>> tiers;
  plan::CallIndex peak;                                  // at which the device holds most
  IndexedVector<plan::ClassIndex, Bytes> peak_by_class;  // tensors at the peak
  Bytes peak_transients, fixed;
};

Occupancy occupancy(const plan::Plan& plan);

// A tensor's extent on its tier, from the boundary at which it is first used to the one after which it is not read any
// more. A persistent tensor's extent is used all the time.
struct Extent {
  plan::TensorIndex tensor;
  int tier = 0;
  plan::Boundary begin, end;
  Bytes bytes;
};
std::vector<Extent> extents(const plan::Plan& plan);

}  // namespace memo::report
