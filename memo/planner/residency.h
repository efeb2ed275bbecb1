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
  bool one_sequence = false;   // a step: its backward finds gradients that are zero, so they are not fetched for it
};

// A residency that has no address yet, with the copies that end or begin it.
struct Stay {
  InstanceIndex tensor;
  Boundary begin, end;
  CallIndex first_use, last_use;
  bool fetched = false;
  Boundary write_at = Boundary::none(), write_before = Boundary::none();  // copy-out of this stay, if any
  CallIndex next_use = CallIndex::none();                                 // reads what is written out, fetched again
  int life = 0;                                                           // a tensor that is computed again lives anew
  int ring = 0;                            // stays of one ring share slots, first in first out
  int slot = -1;                           // of a persistent tensor: always the same
  bool held = false;                       // for the whole step
  bool zeroed = false;                     // gradients before the step's first use of them
  Boundary refresh_at = Boundary::none();  // held weights are fetched anew, since the host has updated them
  [[nodiscard]] bool written_out() const { return write_at.exists(); }
  [[nodiscard]] bool refreshed() const { return refresh_at.exists(); }
};

// Stays of a (class, group) that begin and end in the same passes. Where a call takes the whole sequence, the ring is
// one layer's buffer.
struct Ring {
  ClassIndex cls;
  bool sequence = false;
  std::vector<int> stays;  // by begin
  int slots = 0;           // of persistent tensors, else 0: as many as its stays need
};

struct Residencies {
  std::vector<Stay> stays;
  std::vector<Ring> rings;
};

// A class whose blocks are too small or ragged for direct I/O stays on the device even if its placement swaps it.
bool swappable(const Profile& profile, ClassIndex cls, int tier);

Residencies residencies(const Profile& profile, const Instances& instances, const PlacementMap& placement,
                        const Schedule& schedule, const Pace& pace);

}  // namespace memo::planner
