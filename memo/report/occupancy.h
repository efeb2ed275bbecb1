// Bytes in use on the device and on each tier, at every boundary of a program.
#pragma once

#include <vector>

#include "memo/plan/plan.h"

namespace memo::report {

struct Occupancy {
  std::vector<Bytes> device;              // [calls]: fixed memory, tensors, and the call's transients
  std::vector<std::vector<Bytes>> tiers;  // [tier][calls + 1]: extents from copy-out's start to the last copy-in's end
  int peak = 0;                           // the call at which the device holds most
  std::vector<Bytes> peak_by_class;       // [classes]: tensors at the peak
  Bytes peak_transients, fixed;
};

Occupancy occupancy(const plan::Plan& plan);

// A tensor's extent on its tier, from the boundary at which it is first used to the one after which it is not read any
// more. A persistent tensor's extent is used all the time.
struct Extent {
  int tensor = 0, tier = 0, begin = 0, end = 0;
  Bytes bytes;
};
std::vector<Extent> extents(const plan::Plan& plan);

}  // namespace memo::report
