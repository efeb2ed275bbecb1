// First fit in a given order: puts each buffer at the lowest offset that is free over its whole lifetime.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "memo/pack/sections.h"

namespace memo::pack {

// A set of addresses, as sorted disjoint spans.
class AddressSet {
 public:
  struct Span {
    std::int64_t begin, end;
  };
  // Closes gaps below `least`, which fit no buffer.
  void add(Span span, std::int64_t least);
  void clear() { spans_.clear(); }
  [[nodiscard]] const std::vector<Span>& spans() const { return spans_; }

 private:
  std::vector<Span> spans_;
};

// Sections are kept in a segment tree. A node knows the addresses of buffers that cover all its sections (`cover`), and
// of buffers alive in any of them (`touch`). A lifetime is then looked up in O(log n) sets, which stay short because
// adjacent spans merge.
class FirstFit {
 public:
  explicit FirstFit(const Instance& instance);

  enum class End { placed, over_ceiling, interrupted };
  struct Result {
    End end = End::placed;
    std::size_t position = 0;  // position in `order` of the buffer that ends above `ceiling`
  };
  // Places fixed buffers, which are not in `order`, then `order`. Fills `offsets` up to the first buffer that ends
  // above `ceiling`. Calls `interrupted` now and then.
  Result place(const std::vector<std::uint32_t>& order, std::int64_t ceiling, const std::function<bool()>& interrupted,
               std::vector<std::int64_t>& offsets);

  // For each buffer, the most bytes alive at one time of its life.
  [[nodiscard]] std::vector<std::int64_t> peak_loads() const;

 private:
  template <class Canonical, class Above>
  void visit(std::uint32_t buffer, Canonical canonical, Above above) const;
  [[nodiscard]] std::int64_t lowest_free(std::uint32_t buffer);
  void take(std::uint32_t buffer, std::int64_t offset);

  struct Cursor {
    const AddressSet::Span *next, *end;
  };
  const Instance& instance_;
  Sections sections_;
  std::int64_t least_ = 1;                 // size of the smallest buffer
  std::uint32_t leaves_ = 1;               // a power of two
  std::vector<AddressSet> cover_, touch_;  // per node; the root is 1
  std::vector<Cursor> cursors_;
};

}  // namespace memo::pack
