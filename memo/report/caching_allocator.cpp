// The allocator's rules for rounding, splitting, merging and giving back.
#include "memo/report/caching_allocator.h"

#include <algorithm>

#include "memo/base/check.h"

namespace memo::report {
namespace {

// Names and values from PyTorch's source.
constexpr std::int64_t min_block = 512;             // kMinBlockSize: every size is a multiple
constexpr std::int64_t small_size = 1 << 20;        // kSmallSize: the largest request of the small pool
constexpr std::int64_t small_buffer = 2 << 20;      // kSmallBuffer: a segment of the small pool
constexpr std::int64_t large_buffer = 20 << 20;     // kLargeBuffer: a segment for requests below min_large_alloc
constexpr std::int64_t min_large_alloc = 10 << 20;  // kMinLargeAlloc
constexpr std::int64_t round_large = 2 << 20;       // kRoundLarge: of the segments of larger requests

std::int64_t segment_bytes(std::int64_t bytes) {
  if (bytes <= small_size) return small_buffer;
  if (bytes < min_large_alloc) return large_buffer;
  return round_up(Bytes(bytes), round_large).value();
}

}  // namespace

int CachingAllocator::new_block(const Block& block) {
  if (unused_.empty()) {
    blocks_.push_back(block);
    return static_cast<int>(blocks_.size()) - 1;
  }
  const int number = unused_.back();
  unused_.pop_back();
  at(number) = block;
  return number;
}

void CachingAllocator::drop_block(int block) { unused_.push_back(block); }

std::optional<CachingAllocator::Handle> CachingAllocator::allocate(Bytes request) {
  const std::int64_t bytes = std::max(min_block, round_up(request, min_block).value());
  const bool small = bytes <= small_size;
  std::set<FreeKey>& pool = free_[small ? 0 : 1];
  auto found = pool.lower_bound({bytes, -1, -1});
  if (found == pool.end()) {
    const std::int64_t segment = segment_bytes(bytes);
    if (!add_segment(segment, small)) {
      release_free_segments();
      if (!add_segment(segment, small)) return {};
    }
    found = pool.lower_bound({bytes, -1, -1});
  }
  const int number = std::get<2>(*found);
  pool.erase(found);
  const std::int64_t rest = at(number).bytes - bytes;
  if (small ? rest >= min_block : rest > small_size) {
    const Block tail{at(number).address + bytes, rest, number, at(number).after, small, false};
    const int split = new_block(tail);
    if (tail.after >= 0) at(tail.after).before = split;
    at(number).after = split;
    at(number).bytes = bytes;
    pool.insert({rest, tail.address, split});
  }
  at(number).used = true;
  allocated_ += Bytes(at(number).bytes);
  peak_allocated_ = std::max(peak_allocated_, allocated_);
  return number;
}

void CachingAllocator::free(Handle handle) {
  MEMO_CHECK(at(handle).used, "what is freed was allocated");
  at(handle).used = false;
  allocated_ -= Bytes(at(handle).bytes);
  merge(handle, at(handle).after);
  merge(handle, at(handle).before);
  pool(at(handle)).insert({at(handle).bytes, at(handle).address, handle});
}

void CachingAllocator::merge(int block, int neighbour) {
  if (neighbour < 0 || at(neighbour).used) return;
  Block& to = at(block);
  const Block& from = at(neighbour);
  pool(from).erase({from.bytes, from.address, neighbour});
  to.bytes += from.bytes;
  if (from.address < to.address) {
    to.address = from.address;
    to.before = from.before;
    if (to.before >= 0) at(to.before).after = block;
  } else {
    to.after = from.after;
    if (to.after >= 0) at(to.after).before = block;
  }
  drop_block(neighbour);
}

bool CachingAllocator::add_segment(std::int64_t bytes, bool small) {
  if (capacity_ > Bytes(0) && reserved_ + Bytes(bytes) > capacity_) return false;
  const Block block{next_address_, bytes, -1, -1, small, false};
  next_address_ += bytes;
  pool(block).insert({bytes, block.address, new_block(block)});
  reserved_ += Bytes(bytes);
  peak_reserved_ = std::max(peak_reserved_, reserved_);
  return true;
}

void CachingAllocator::release_free_segments() {
  for (std::set<FreeKey>& pool : free_)
    std::erase_if(pool, [&](const FreeKey& key) {
      const int number = std::get<2>(key);
      if (at(number).before >= 0 || at(number).after >= 0) return false;
      reserved_ -= Bytes(at(number).bytes);
      drop_block(number);
      return true;
    });
}

}  // namespace memo::report
