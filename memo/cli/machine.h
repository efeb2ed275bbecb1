// Reads the machine's description, and measures its memory and disk.
#pragma once

#include <algorithm>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "memo/base/file.h"
#include "memo/base/units.h"
#include "memo/exec/probe.h"

namespace memo::cli {

// A problem of the machine, and how to mend it.
struct Finding {
  std::string what, fix;
};

struct Memory {
  Bytes total, available;
  std::optional<Bytes> limit;         // the container's
  std::optional<Bytes> locked_limit;  // none: no limit
  std::optional<Bytes> shared;        // the size of /dev/shm; none: there is none
  [[nodiscard]] Bytes usable() const { return limit ? std::min(available, *limit) : available; }
};
Memory look_at_memory();
// Whether the kernel has a driver of NVIDIA's GPUs.
bool has_nvidia_driver();
// Whether there is an NVMe disk.
bool has_nvme();

struct Machine {
  int cores = 0;  // available to this process
  Memory memory;
  BytesPerSecond memory_copy;  // by one thread
  int numa_nodes = 1;
  std::string huge_pages;  // "always", "madvise" or "never"; empty where the kernel does not tell
  bool io_uring = false;
  bool nvidia = false;
};
Machine look_at_machine();

struct Disk {
  Bytes free;
  exec::TierRates rates;               // while cores are idle
  exec::TierRates rates_with_compute;  // while every core computes
};
// Writes and reads a file of 256 MiB in `folder`, bypassing the page cache, for a few seconds.
Result<Disk> measure_disk(const Path& folder, int cores);

// From now on, core dumps of this process hold none of its memory.
Status keep_memory_from_core_dumps();

}  // namespace memo::cli
