// The program of one step: its calls, the place and time of every planned tensor, and every copy between tiers. The
// executor plays it, the simulator predicts it, the validator checks it.
//
// Time is counted in boundaries. At boundary k, in this order: compute waits for every copy with `before` == k; copies
// with `at` == k may start (all calls < k have ended, as seen by the copy's stream); call k runs. A residency owns
// [offset, offset + bytes) in the arena from boundary `begin` up to, not including, boundary `end`.
#pragma once

#include <vector>

#include "memo/base/index.h"
#include "memo/base/units.h"
#include "memo/model/dataflow.h"
#include "memo/plan/profile.h"

namespace memo::plan {

using CallIndex = Index<struct CallTag>;            // into Program::calls
using TensorIndex = Index<struct TensorTag>;        // into Program::tensors
using ResidencyIndex = Index<struct ResidencyTag>;  // into Program::residencies
using Boundary = CallIndex;                         // boundary k lies before call k; the last one behind all calls

// rerun: runs a forward side again in the backward pass, because its outputs were placed as recompute.
enum class Phase { forward, backward, rerun };

struct Call {
  SegmentIndex segment;
  Phase phase = Phase::forward;
  LayerIndex layer;
  // None for the optimizer and core segments. Of a core segment's rerun, the block before which it ends (causal: the
  // first ones of the sequence need no others), or none for all.
  BlockIndex block = BlockIndex::none();
  int group = -1;  // head group of core segments, else -1
  TraceIndex trace;
  Bytes workspace;  // arena offset of the call's transients
};

// One instance of a tensor class. `group` and `block` count from 0 (0 where the class has no such axis). A persistent
// tensor is changed in place: it has one address whenever it is on the device, and one address on its tier, which holds
// its content between steps. After a call has changed it, it is written to the tier before it is fetched again and
// before the step ends.
struct Tensor {
  ClassIndex cls;
  LayerIndex layer;
  BlockIndex block;
  int group = 0;
  Bytes bytes;
};

// A persistent tensor that is never on the device: optimizer state of a layer that the host updates.
struct OnTier {
  TensorIndex tensor;
  int tier = 0;
  Bytes tier_offset;
};

// held: a persistent tensor that stays on the device from the step before to the step after. A copy in, after the host
// has updated them, brings held weights up to date. zeroed: gradients to which the step's only sequence adds first, so
// that they begin as zeros.
enum class Origin { produced, fetched, held, zeroed };

struct Residency {
  TensorIndex tensor;
  Boundary begin;  // produced, zeroed: the call that writes it; fetched: the `at` of its copy; held: 0
  Boundary end;
  Bytes offset;
  Origin origin = Origin::produced;
};

enum class Direction { out, in };

// A copy moves its tensor's bytes rounded up to this alignment of direct I/O.
inline constexpr std::int64_t copy_alignment = 4096;

struct Copy {
  ResidencyIndex residency;  // out: the one that is read; in: the one that is filled
  Direction direction = Direction::out;
  int tier = 0;
  Bytes tier_offset;
  Boundary at;
  Boundary before;  // at < before <= number of calls
};

// Offsets of a call's transients within its workspace, one for each request of the trace (-1: the request is a planned
// tensor).
struct Transients {
  Bytes bytes;
  std::vector<std::int64_t> offsets;
};

struct Region {  // of a Fixed
  Bytes offset, bytes;
};

struct Program {
  Bytes arena;  // peak: everything below lies in [0, arena)
  std::vector<Region> fixed;
  IndexedVector<TraceIndex, Transients> transients;
  IndexedVector<CallIndex, Call> calls;
  IndexedVector<TensorIndex, Tensor> tensors;
  IndexedVector<ResidencyIndex, Residency> residencies;
  std::vector<Copy> copies;  // in issue order (`at` never decreases per direction)
  std::vector<OnTier> on_tier;
  std::vector<Bytes> tier_bytes;  // used of each tier
};

// The first call of the update. Calls before it are made for every sequence of a step, the others once.
CallIndex update_begin(const model::Dataflow& flow, const Program& program);
// Whether some parameters are updated before backward has ended. Not for a job that clips by the norm of all gradients.
bool updates_early(const model::Dataflow& flow, const Program& program);

}  // namespace memo::plan
