// What the machine says of itself, and what its memory and disk do when asked to.
#pragma once

#include <optional>
#include <string>

#include "memo/base/file.h"
#include "memo/base/units.h"
#include "memo/exec/probe.h"

namespace memo::cli {

struct Machine {
  int cores = 0;  // that this process may use
  Bytes memory_total, memory_available;
  std::optional<Bytes> memory_limit;  // of the container
  BytesPerSecond memory_copy;         // one thread
  std::optional<Bytes> locked_limit;  // none: unlimited
  int numa_nodes = 1;
  std::string huge_pages;  // "always", "madvise" or "never"; empty where the kernel does not tell
  bool io_uring = false;
  bool nvidia = false;
};
Machine look_at_machine();

struct Disk {
  Bytes free;
  exec::TierRates rates;               // with idle cores
  exec::TierRates rates_with_compute;  // while every core computes
};
// Writes and reads a file of 256 MiB in `folder` past the page cache, for a few seconds.
Result<Disk> measure_disk(const Path& folder, int cores);

// Core dumps of this process hold none of its memory from now on.
Status keep_memory_from_core_dumps();

}  // namespace memo::cli
