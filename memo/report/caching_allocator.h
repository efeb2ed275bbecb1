// PyTorch's caching allocator for GPUs, as arithmetic: computes what it would reserve for a series of requests. The
// rules are those of c10/cuda/CUDACachingAllocator.cpp with its default settings (no expandable segments, no
// max_split_size) on one stream; docs/formats.md lists them. No memory is touched.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "memo/base/units.h"

namespace memo::report {

class CachingAllocator {
 public:
  // `capacity`: the device's bytes; 0: no limit.
  explicit CachingAllocator(Bytes capacity = Bytes(0)) : capacity_(capacity) {}

  using Handle = int;
  // Nothing if memory runs out, even after freeing every segment that is completely free.
  [[nodiscard]] std::optional<Handle> allocate(Bytes bytes);
  void free(Handle handle);

  [[nodiscard]] Bytes allocated() const { return allocated_; }  // bytes of blocks in use, rounded as below
  [[nodiscard]] Bytes reserved() const { return reserved_; }    // bytes of segments taken from the device
  [[nodiscard]] Bytes peak_allocated() const { return peak_allocated_; }
  [[nodiscard]] Bytes peak_reserved() const { return peak_reserved_; }

 private:
  struct Block {  // part of a segment; `before` and `after` are its neighbours by address
    std::int64_t address = 0, bytes = 0;
    int before = -1, after = -1;
    bool small = false, used = false;
  };
  using FreeKey =
      // Bytes, address, block: the first that holds a request is the best fit.
      std::tuple<std::int64_t, std::int64_t, int>;

  std::set<FreeKey>& pool(const Block& block) { return free_[block.small ? 0 : 1]; }
  Block& at(int block) { return blocks_[static_cast<std::size_t>(block)]; }
  int new_block(const Block& block);
  void drop_block(int block);
  bool add_segment(std::int64_t bytes, bool small);
  void release_free_segments();
  void merge(int block, int neighbour);  // joins `neighbour`, if free, to `block`

  Bytes capacity_, allocated_, reserved_, peak_allocated_, peak_reserved_;
  std::int64_t next_address_ = 0;
  std::vector<Block> blocks_;
  std::vector<int> unused_;    // indices of blocks_ to use again
  std::set<FreeKey> free_[2];  // of the small pool and of the large one
};

}  // namespace memo::report
