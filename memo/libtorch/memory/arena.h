// One mapping of memory that holds every planned tensor of the device. Pages exist from their first use, so the
// resident pages at the end of a step are those that the step touched: the measured device peak.
#pragma once

#include <cstddef>
#include <memory>

#include "memo/base/result.h"
#include "memo/base/units.h"

namespace memo::libtorch {

// The allocator knows it as memory of planned addresses. The memory lives as long as the arena and all blocks that
// scopes have placed there; views of it (`tensor_at`) do not keep it.
class Arena {
 public:
  // A mapping of `bytes` zeros, beginning at a page. Fails when the address space has no room.
  static Result<Arena> map(Bytes bytes);
  // `bytes` of another device's memory, which `memory` keeps alive; all of them count as resident.
  Arena(std::shared_ptr<std::byte> memory, Bytes bytes);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] Bytes bytes() const { return bytes_; }
  // Bytes of the pages that are in memory now, whole pages each.
  [[nodiscard]] Bytes resident() const;
  // Makes a mapping of its own zeros again, none resident. Memory of another device keeps its content.
  void clear();

 private:
  Arena(std::byte* data, Bytes bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_ = nullptr;
  Bytes bytes_;
  std::shared_ptr<std::byte> other_;  // null: a mapping of our own
};

}  // namespace memo::libtorch
