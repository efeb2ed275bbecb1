// The measurements of a job: the dataflow with its times, the allocations of each call, fixed memory and the tiers.
// Written by `memo profile`, by hand, or by the estimator; the planner needs nothing else.
#pragma once

#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/model/dataflow.h"
#include "memo/model/device_sizes.h"

namespace memo::plan {

using model::BlockIndex, model::ClassIndex, model::LayerIndex, model::SegmentIndex;
using TraceIndex = Index<struct TraceTag>;  // into Profile::traces and Program::transients

// One allocation inside a call, in the order in which the call makes them.
struct Request {
  Bytes bytes;
  int born = 0;                         // event number (mallocs and frees counted together) of its malloc
  int dies = 0;                         // event number of its free; meaningless when it holds a tensor
  ClassIndex cls = ClassIndex::none();  // of the tensor it holds; none: a transient
  int group = 0;  // head group of that tensor (0 when the class is not grouped or the call has its own group)
};

// The trace of one side of a segment, measured at one number of tokens (a block's; for core, the context's).
struct Trace {
  SegmentIndex segment;
  bool backward = false;
  Tokens tokens;
  Seconds seconds;
  std::vector<Request> requests;
};

// Memory that lives for the whole step: weights, gradients, optimizer.
struct Fixed {
  std::string name;
  Bytes bytes;
};

// A slow tier. It has rates for one direction alone, and for each direction while both run.
struct Tier {
  std::string name;  // "host" or "disk"
  Bytes capacity;
  BytesPerSecond write, read;
  BytesPerSecond write_with_read, read_with_write;
  double compute_slowdown = 1;    // time of a call while copies run, over its time alone
  std::int64_t alignment = 4096;  // of sizes, addresses and offsets of a copy
};

// A measured kernel of attention: the times of its calls of one head group.
struct AttentionTime {
  std::string kernel;
  Tokens tokens;
  Seconds forward, backward;
};

inline constexpr int profile_version = 4, oldest_profile_version = 3;

inline constexpr const char* paper_mark = ", on paper";  // of a device that is not here, by the estimator

struct Profile {
  std::string model;   // what was profiled, in words: "llama 8 x 512, float32"
  std::string device;  // on what: "cpu, 2 threads"; or "H100" and paper_mark
  model::Dataflow flow;
  IndexedVector<TraceIndex, Trace> traces;
  std::vector<Fixed> fixed;
  std::vector<Tier> tiers;
  // The kernel of core attention, by its name in its device's table; empty: the first one there.
  std::string attention;
  std::vector<AttentionTime> attention_measured;  // all kernels that apply
  Tokens loss_tile;  // rows of logits at a time; 0: a CPU's (model::DeviceSizes), as before version 4
  std::vector<model::BlockTime> blocks_measured;  // among which flow.block was chosen; empty: there was no choice

  [[nodiscard]] bool on_paper() const { return device.ends_with(paper_mark); }
  // The trace of a call. Aborts when the profile has none, which cannot be for a profile that was read or recorded.
  [[nodiscard]] TraceIndex trace_of(SegmentIndex segment, bool backward, Tokens tokens) const;
};

inline constexpr FileKind profile_kind{"a profile", "{\n \"format\": \"memo-profile\""};
Result<Profile> read_profile(const Path& path);
Status write_profile(const Profile& profile, const Path& path);

}  // namespace memo::plan
