// A slow tier: bytes at offsets, which copy streams read and write. Each kind of tier has a file of its own.
#pragma once

#include <cstddef>
#include <memory>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::exec {

// Reads and writes are complete, or fail with a run-time error that names the tier and the reason. Thread-safe for
// ranges that do not overlap. Offsets, sizes and addresses are multiples of the tier's alignment.
class TierStore {
 public:
  virtual ~TierStore() = default;
  virtual Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) = 0;
  virtual Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) = 0;
  // The address of these bytes, if a device can copy to and from it by itself; null: use write and read.
  [[nodiscard]] virtual std::byte* pinned(std::int64_t /*offset*/, std::int64_t /*bytes*/) const { return nullptr; }
};

// A tier in existing memory. `pinned`: a device can copy to and from it by itself.
std::unique_ptr<TierStore> memory_tier(std::shared_ptr<std::byte> memory, Bytes bytes, bool pinned);

// A tier in the host's memory: one mapping of exactly `bytes`.
Result<std::unique_ptr<TierStore>> host_tier(Bytes bytes);

// A tier in a file in `folder`: mode 0600, without a name, direct I/O through io_uring in requests of megabytes. The
// file is allocated in full here, so that a full disk is found before the first step. Its alignment is 4096.
Result<std::unique_ptr<TierStore>> disk_tier(const Path& folder, Bytes bytes);

}  // namespace memo::exec
