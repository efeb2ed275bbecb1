// One mapping of memory that holds every planned tensor of the device. Pages exist from their first use, so what is
// resident at the end of a step is what the step touched: the measured device peak.
#pragma once

#include <cstddef>
#include <memory>

#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::libtorch {

// Known to the allocator as memory of planned addresses while it lives; no tensor may outlive it.
class Arena {
 public:
  // `bytes` of zeros, from a page's start. Fails when the address space has no room.
  static Result<Arena> map(Bytes bytes);
  // `bytes` of another device's memory, which `memory` keeps; all of them count as resident.
  Arena(std::shared_ptr<std::byte> memory, Bytes bytes);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  // Of the pages that are in memory now; whole pages count.
  [[nodiscard]] Bytes resident() const;

 private:
  Arena(std::byte* data, Bytes bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_ = nullptr;
  Bytes bytes_;
  std::shared_ptr<std::byte> other_;  // null: a mapping of our own
};

}  // namespace memo::libtorch
