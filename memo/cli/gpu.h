// What a GPU offers to training, as memo doctor shows it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "memo/base/result.h"
#include "memo/base/units.h"
#include "memo/cli/machine.h"
#include "memo/exec/probe.h"

namespace memo::cli {

struct Gpu {
  std::string name, capability, driver, runtime;  // all but the name: versions
  int visible = 1;                                // GPUs that this process may use
  Bytes total, free;
  Bytes limit;  // memory.device_limit where a job has none
  // Host memory that was mapped and registered: bytes, the time it took, and the copies between it and the GPU (write:
  // to the host). An error: it was refused.
  struct HostMemory {
    Bytes bytes;
    Seconds seconds;
    exec::TierRates rates;
  };
  Result<HostMemory> host;
  struct Kernel {
    std::string name;
    bool needed = true;   // training runs it
    std::string missing;  // why it is not there; empty: it is
  };
  std::vector<Kernel> kernels;
};

// Whether this build trains on GPUs.
bool trains_on_gpus();
// The first GPU that the process sees, measured for some seconds; an error says why training can't use it. None: this
// build or this machine has none. The command `memo` hands over to memo-tensors instead, which runs the verb again.
std::optional<Result<Gpu>> look_at_gpu(const Memory& host);

nlohmann::ordered_json to_json(const exec::TierRates& rates);
nlohmann::ordered_json gpu_json(const Gpu& gpu);
std::string gpu_text(const Gpu& gpu);
std::vector<Finding> findings_on(const Gpu& gpu, const Memory& host);

}  // namespace memo::cli
