// Decides when every planned tensor is on the device and when it is copied, from the schedule and the placement, before
// addresses are known.
#pragma once

#include <vector>

#include "memo/planner/schedule.h"

namespace memo::planner {

// How far copies run ahead of compute and behind it. A larger distance costs memory, a smaller one costs stalls.
struct Pace {
  int slots = 2;               // staging slots per swapped class and pass (MEMO: two rounding buffers)
  bool relaxed = false;        // let copies of one pass overlap the whole next or previous pass
  bool early_updates = false;  // update parameters as soon as backward has their gradients, not after all of it
};

// A residency that has no address yet, with the copies that end or begin it.
struct Stay {
  int tensor = 0;  // TensorIndex
  int begin = 0, end = 0;
  int first_use = 0, last_use = 0;  // calls
  bool fetched = false;
  int write_at = -1, write_before = -1;  // copy-out of this stay, if any
  int next_use = -1;                     // the call that reads what is written out, fetched again
  int life = 0;                          // a tensor that is computed again lives anew
  int ring = 0;                          // stays of one ring share slots, first in first out
  int slot = -1;                         // of a lasting tensor: always the same
  bool held = false;                     // for the whole step, without copies
};

// Stays of a (class, group) that begin and end in the same passes. Where a call takes the whole sequence, the ring is
// one layer's buffer.
struct Ring {
  int cls = 0;
  bool sequence = false;
  std::vector<int> stays;  // by begin
  int slots = 0;           // of lasting tensors, else 0: as many as its stays need
};

struct Residencies {
  std::vector<Stay> stays;
  std::vector<Ring> rings;
};

// A class whose blocks are too small or ragged for direct I/O stays on the device even if its placement swaps it.
bool swappable(const Profile& profile, int cls, int tier);

Residencies residencies(const Profile& profile, const TensorIndex& index, const PlacementMap& placement,
                        const Schedule& schedule, const Pace& pace);

}  // namespace memo::planner
