// One mapping of memory that holds every planned tensor of the device. Pages exist from their first use, so what is
// resident at the end of a step is what the step touched: the measured device peak.
#pragma once

#include <cstddef>

#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::edge {

// Known to the allocator as memory of planned addresses while it lives; no tensor may outlive it.
class Arena {
 public:
  // `bytes` of zeros, from a page's start. Fails when the address space has no room.
  static Result<Arena> map(Bytes bytes);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  // Of the pages that are in memory now; whole pages count.
  [[nodiscard]] Bytes resident() const;
  // Gives the whole pages inside [offset, offset + bytes) back to the system; they read as zeros afterwards.
  void drop(Bytes offset, Bytes bytes);

 private:
  Arena(std::byte* data, Bytes bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_ = nullptr;
  Bytes bytes_;
};

}  // namespace memo::edge
