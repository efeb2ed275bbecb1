// A slow tier: bytes at offsets, read and written by copy streams. One file per kind of tier.
#pragma once

#include <cstddef>
#include <memory>

#include "memo/base/file.h"
#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::exec {

// Reads and writes are whole or fail with a run-time error that names the tier and the reason. Thread-safe for ranges
// that do not overlap. Offsets, sizes and addresses are multiples of the tier's alignment.
class TierStore {
 public:
  virtual ~TierStore() = default;
  virtual Status write(std::int64_t offset, const std::byte* from, std::int64_t bytes) = 0;
  virtual Status read(std::int64_t offset, std::byte* to, std::int64_t bytes) = 0;
  // Those bytes in memory that a device copies to and from by itself; null: they pass through write and read.
  [[nodiscard]] virtual std::byte* pinned(std::int64_t /*offset*/, std::int64_t /*bytes*/) const { return nullptr; }
};

// Memory that is there already. `pinned`: a device copies to and from it by itself.
std::unique_ptr<TierStore> memory_tier(std::shared_ptr<std::byte> memory, Bytes bytes, bool pinned);

// Memory of the host: one mapping of exactly `bytes`.
Result<std::unique_ptr<TierStore>> host_tier(Bytes bytes);

// A file in `folder`, mode 0600, unlinked at birth, direct I/O through io_uring in requests of megabytes, allocated
// in full here, so that a full disk is found before the first step. Its alignment is 4096.
Result<std::unique_ptr<TierStore>> disk_tier(const Path& folder, Bytes bytes);

}  // namespace memo::exec
