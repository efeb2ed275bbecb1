// Machines on paper: what a GPU computes, holds and moves. The table is hardware.toml, built into the library; a user's
// own file has the same form (docs/formats.md).
#pragma once

#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::estimate {

// Of causal attention, FLOPs of the causal half alone, backward 2.5 times forward. At n tokens a kernel reaches
// n / (n + half) of its rate.
struct AttentionRate {
  std::string kernel;                // "flash2", "flash3", "cudnn"
  double forward = 0, backward = 0;  // FLOP/s
  double half = 0;                   // tokens
};

// Pinned memory of the host to and from the device, of one GPU while all of a node copy.
struct HostCopies {
  BytesPerSecond write, read;  // one direction alone
  BytesPerSecond write_with_read, read_with_write;
  double compute_slowdown = 1;  // of a call while copies run
};

// How much of a GPU's rates training reaches, which no data sheet tells: calibrated on a half of the published rows
// (docs/validation.md), the same for every GPU and system.
struct Shares {
  double matmul = 0.80, fp8 = 0.68;  // of the best shape's rate, in a layer's products
  double matmul_half = 300;          // rows at which products reach half of that
  double attention = 0.95;           // of the kernel alone
  double memory = 0.80;              // of the data sheet's rate
  double link = 0.70;                // of a link's measured rate, in collectives
};

struct Hardware {
  std::string name;
  std::vector<std::string> aliases;
  double peak = 0;      // dense bfloat16, FLOP/s: what utilisation is a share of
  double matmul = 0;    // of the best shapes, measured (or the peak times the usual share)
  double peak_fp8 = 0;  // 0: none
  Bytes memory;
  BytesPerSecond memory_rate;
  BytesPerSecond link;     // to another GPU of the node, one way
  BytesPerSecond network;  // to another node, for each GPU
  int gpus_per_node = 8;
  Bytes host_memory;  // of a node
  HostCopies host;
  std::string tier = "host";             // what takes what leaves the device
  std::vector<AttentionRate> attention;  // the usual one first
  Shares shares;
  Bytes runtime{std::int64_t{3} << 29};  // of a process beside its tensors: CUDA's context, NCCL's buffers, cuBLAS
  std::string source;

  // The rate of a kernel, or of the usual one when this GPU has none of that name.
  [[nodiscard]] const AttentionRate& attention_of(const std::string& kernel) const;
};

const std::vector<Hardware>& hardware_table();
// By name or alias, whatever its case; of an unknown one the nearest known is named.
Result<Hardware> find_hardware(const std::string& name, const std::vector<Hardware>& table);
Result<std::vector<Hardware>> read_hardware(const Path& file);

}  // namespace memo::estimate
