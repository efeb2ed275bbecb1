// GPUs on paper: their compute, memory and links. The table is hardware.toml, built into the library; a user's own file
// has the same form (docs/formats.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/model/device_sizes.h"

namespace memo::estimate {

// Rates of causal attention: FLOPs of the causal half alone, backward 2.5 times forward. At n tokens a kernel reaches n
// / (n + half) of its rate.
struct AttentionRate {
  std::string kernel;                // "flash2", "flash3", "cudnn"
  double forward = 0, backward = 0;  // FLOP/s
  double half = 0;                   // tokens
};

// Copies between a tier (the host's pinned memory, a disk) and a device, for one GPU while all of a node copy.
struct TierCopies {
  BytesPerSecond write, read;  // one direction alone
  BytesPerSecond write_with_read, read_with_write;
  double compute_slowdown = 1;  // factor on a call's time while copies run
};

// Shares of a GPU's rates that training reaches, which data sheets do not tell. They were calibrated on half of the
// published rows (docs/validation.md), and are the same for every GPU and system.
struct Shares {
  double matmul = 0.80, fp8 = 0.68;  // of the best shape's rate, for a layer's products
  double matmul_half = 300;          // rows at which products reach half of that
  double attention = 0.95;           // of the kernel's own rate
  double memory = 0.80;              // of the data sheet's rate
  double link = 0.70;                // of a link's measured rate, in collectives
};

struct Hardware {
  std::string name;
  std::vector<std::string> aliases;
  double peak = 0;      // dense bfloat16, FLOP/s; the base of utilisation
  double matmul = 0;    // of the best shapes: measured, or the peak times the usual share
  double peak_fp8 = 0;  // 0: no fp8
  Bytes memory;
  BytesPerSecond memory_rate;
  BytesPerSecond link;     // to another GPU of the node, one way
  BytesPerSecond network;  // to another node, for each GPU
  int gpus_per_node = 8;
  Bytes host_memory;  // of a node
  TierCopies host;
  TierCopies disk{BytesPerSecond(3e9), BytesPerSecond(3e9), BytesPerSecond(3e9), BytesPerSecond(3e9)};  // a usual NVMe
  std::string tier = "host";             // name of the tier for tensors that leave the device
  std::vector<AttentionRate> attention;  // the usual kernel first
  Shares shares;
  Bytes runtime{std::int64_t{3} << 29};  // of a process besides tensors: CUDA's context, NCCL's buffers, cuBLAS
  model::DeviceSizes sizes{.gpu = true};
  std::string source;

  // The rate of a kernel, or of the usual one if this table has none of that name for the GPU.
  [[nodiscard]] const AttentionRate& attention_of(const std::string& kernel) const;
};

const std::vector<Hardware>& hardware_table();
// Finds a GPU by name or alias, in upper or lower case; the error names the nearest known one.
Result<Hardware> find_hardware(const std::string& name, const std::vector<Hardware>& table);
Result<std::vector<Hardware>> read_hardware(const Path& file);
// The user's GPUs, where there is a file of them, then those of the table.
Result<std::vector<Hardware>> known_hardware(const std::optional<std::string>& file);

}  // namespace memo::estimate
